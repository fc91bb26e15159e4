//! What is seen of segments while others are made.

use std::sync::OnceLock;

use super::*;
use crate::files::File;
use crate::files::image::ImageDisk;

/// Segments, and whether their headers are whole.
type Headers = Vec<(u64, Result<bool, StorageError>)>;

/// Files that let somebody look on while one is new and empty.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn Files>,
    segments: OnceLock<Arc<Segments>>,
    /// What was to be seen of all segments each time.
    seen: Mutex<Vec<Headers>>,
}

impl Files for Watched {
    fn lock(&self) -> io::Result<bool> {
        self.inner.lock()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.inner.names()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let opened = self.inner.open(name);
        if let Some(segments) = self.segments.get() {
            assert!(self.inner.names()?.contains(&name.to_owned()));
            let all = segments.all().into_iter();
            let found = all.map(|id| (id, segments.mend_header(id))).collect();
            self.seen.lock().unwrap().push(found);
        }
        opened
    }

    fn open_existing(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.inner.open_existing(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.inner.sync_names()
    }
}

impl std::fmt::Debug for Segments {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("segments")
    }
}

/// A scrub looks at all segments while others are made.
#[test]
fn a_segment_that_is_being_made_is_no_damage() {
    let inner = ImageDisk::new().files();
    let files = Arc::new(Watched { inner, segments: OnceLock::new(), seen: Mutex::default() });
    let nothing = |_, _: &[u8; 16]| Ok(None);
    let taken = Segments::take_up(
        files.clone(),
        ([7; 16], SEGMENT_OCTETS),
        Arc::new(Counters::new("redb")),
        BTreeSet::new(),
        &BTreeMap::new(),
        &nothing,
    );
    let segments = Arc::new(taken.unwrap().segments);
    files.segments.set(segments.clone()).unwrap();
    segments.begin_log(0).unwrap();
    segments.begin_log(5).unwrap();
    assert_eq!(*files.seen.lock().unwrap(), [vec![], vec![(1, Ok(true))]]);
    assert_eq!(segments.all(), [1, 2]);
}
