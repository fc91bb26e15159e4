//! What was written into the component's file: versions of one store have the same settings, so a
//! version that is to sin otherwise than another has it in its own octets.

/// By which the place is found in the file.
const MARK: &str = "postroom-faulty-does:";
/// Octets behind the mark.
const ROOM: usize = 128;
/// All of it in the file as it is built: nothing is written there.
static PLACE: [u8; MARK.len() + ROOM] = {
    let mut place = [b' '; MARK.len() + ROOM];
    let mut at = 0;
    while at < MARK.len() {
        place[at] = MARK.as_bytes()[at];
        at += 1;
    }
    place
};

/// Settings as a text: `sin=trap verb=message.insert every=100`.
pub(crate) struct Written(&'static str);

/// What was written, if anything was: then it counts instead of the settings.
pub(crate) fn anything() -> Option<Written> {
    // The compiler must not know what is there.
    let place: &'static [u8] = std::hint::black_box(&PLACE);
    let text = std::str::from_utf8(&place[MARK.len()..]).expect("what was written is a text");
    Some(text.trim()).filter(|text| !text.is_empty()).map(Written)
}

impl Written {
    /// What it says under a name.
    pub(crate) fn of(&self, name: &str) -> Option<String> {
        let mut pairs = self.0.split(' ').filter_map(|word| word.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    }
}
