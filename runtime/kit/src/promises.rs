//! The promises of `wit/`, quoted from its text by id, so that no quotation can go stale.

/// The texts that promise something.
const TEXTS: [&str; 2] = [
    include_str!("../../../wit/store.wit"),
    include_str!("../../../wit/deps/postroom-host/host.wit"),
];

/// A promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Its id: `messages.update.1`.
    pub id: String,
    /// The sentence that it is part of, with the ids of all its parts.
    pub sentence: String,
}

/// All of them, in the order of the WIT.
pub fn promises() -> Vec<Promise> {
    TEXTS.into_iter().flat_map(paragraphs).flat_map(|text| of_paragraph(&text)).collect()
}

/// The promise of this id.
pub fn promise(id: &str) -> Option<Promise> {
    promises().into_iter().find(|promise| promise.id == id)
}

/// The ids in square brackets in a text: three words, the last one a number.
pub fn ids(text: &str) -> Vec<&str> {
    let inside = text.split('[').skip(1).filter_map(|rest| rest.split(']').next());
    inside.filter(|word| is_id(word)).collect()
}

fn is_id(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let words: Vec<_> = text.split('.').collect();
    let whole = words.len() == 3 && words.iter().all(|w| !w.is_empty() && w.chars().all(plain));
    whole && words[2].chars().all(|c| c.is_ascii_digit())
}

/// The paragraphs and items of all doc comments, a line each.
fn paragraphs(text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for line in text.lines() {
        let doc = line.trim_start().strip_prefix("///").map(str::trim);
        let item = doc.and_then(|doc| doc.strip_prefix("- "));
        match (item.or(doc), item.is_some()) {
            (None | Some(""), _) => found.push(String::new()),
            (Some(words), true) => found.push(words.to_owned()),
            (Some(words), false) => {
                let last = found.last_mut().expect("there is one from the beginning");
                if !last.is_empty() {
                    last.push(' ');
                }
                last.push_str(words);
            }
        }
    }
    found.retain(|paragraph| !paragraph.is_empty());
    found
}

fn of_paragraph(text: &str) -> Vec<Promise> {
    let of_sentence = |sentence: &str| {
        let promise =
            |id: &str| Promise { id: id.to_owned(), sentence: sentence.trim().to_owned() };
        ids(sentence).into_iter().map(promise).collect::<Vec<_>>()
    };
    sentences(text).into_iter().flat_map(of_sentence).collect()
}

/// A sentence ends with a full stop, after which something begins that can begin one.
fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(". ") {
        let next = text[at + 2..].chars().next();
        if next.is_some_and(|c| c.is_uppercase() || "`(*".contains(c)) {
            found.push(&text[start..at + 1]);
            start = at + 2;
        }
    }
    found.push(&text[start..]);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &str, sentence: &str) {
        assert_eq!(promise(id).expect(id).sentence, sentence);
    }

    #[test]
    fn a_promise_is_quoted_with_its_whole_sentence() {
        check(
            "domains.drop.2",
            "Removes every domain of the directory [domains.drop.1]; afterwards it is as after \
             `create` [domains.drop.2].",
        );
        check(
            "storage.put.1",
            "Sets the value of a key, whether it had one or not [storage.put.1].",
        );
        check(
            "store.rule.2",
            "A cache must be one that is never wrong, such as compiled tables [store.rule.2].",
        );
    }

    #[test]
    fn ids_have_three_words_of_which_the_last_is_a_number() {
        assert_eq!(
            ids("a [users.list.1] b [x] [a.b] [a.b.c] [a.b.c.1] [a-b.c.12]"),
            ["users.list.1", "a-b.c.12"]
        );
    }
}
