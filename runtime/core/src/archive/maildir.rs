//! Maildir: one file a message; its flags stand in its name after `:2,`.

use crate::types::{Flag, Flags, Keyword, SystemFlag};

const LETTERS: [(char, SystemFlag); 5] = [
    ('D', SystemFlag::Draft),
    ('F', SystemFlag::Flagged),
    ('R', SystemFlag::Answered),
    ('S', SystemFlag::Seen),
    ('T', SystemFlag::Deleted),
];

/// `P`, passed on, is what IMAP clients call `$Forwarded`.
const FORWARDED: &str = "$Forwarded";

/// The flags in a file's name; letters that nobody defined are passed over.
pub fn flags_of(file_name: &str) -> Flags {
    let mut flags = Flags::default();
    let Some((_, letters)) = file_name.rsplit_once(":2,") else { return flags };
    for letter in letters.chars() {
        let system = LETTERS.iter().find(|(l, _)| *l == letter).map(|(_, f)| Flag::System(*f));
        let forwarded = || Keyword::new(FORWARDED).filter(|_| letter == 'P').map(Flag::Keyword);
        if let Some(flag) = system.or_else(forwarded) {
            flags.insert(flag);
        }
    }
    flags
}

/// The name of a file in `cur` with these flags. Keywords beside `$Forwarded` have no letter.
pub fn file_name(unique: &str, flags: &Flags) -> String {
    let forwarded = flags.keywords().iter().any(|keyword| keyword.as_str() == FORWARDED);
    let mut letters: Vec<char> =
        LETTERS.iter().filter(|(_, flag)| flags.has(*flag)).map(|(letter, _)| *letter).collect();
    letters.extend(forwarded.then_some('P'));
    letters.sort_unstable();
    format!("{unique}:2,{}", letters.into_iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_into_the_name_and_come_back() {
        let flags = flags_of("1.a:2,FPSx");
        assert_eq!(file_name("1.a", &flags), "1.a:2,FPS");
        assert_eq!(flags_of(&file_name("x", &flags)), flags);
        assert_eq!(flags_of("plain"), Flags::default());
    }
}
