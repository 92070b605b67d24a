// SPDX-License-Identifier: Apache-2.0
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

/// A cgroup's files as a kernel had them (testdata), to be changed by a test, and a machine with
/// one disk and two sizes of huge pages.
pub(super) struct Fixture(tempfile::TempDir);

impl Fixture {
    /// `version` is "v1", where the directories of all controllers are one, or "v2".
    pub(super) fn new(version: &str) -> Fixture {
        let fixture = Fixture(tempfile::tempdir().unwrap());
        let captured = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(version);
        fs::create_dir(fixture.cgroup()).unwrap();
        for file in fs::read_dir(captured).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), fixture.cgroup().join(file.file_name())).unwrap();
        }
        let sizes = fixture.root().join("sys/kernel/mm/hugepages");
        for size in ["hugepages-2048kB", "hugepages-1048576kB"] {
            fs::create_dir_all(sizes.join(size)).unwrap();
        }
        fs::create_dir(fixture.root().join("proc")).unwrap();
        let partitions = "major minor  #blocks  name\n\n   8        0  268435456 sda\n   8        1  1024 sda1\n";
        fs::write(fixture.root().join("proc/partitions"), partitions).unwrap();
        fixture
    }

    pub(super) fn cgroup(&self) -> PathBuf {
        self.0.path().join("cgroup")
    }

    pub(super) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.cgroup().join(name), text).unwrap();
    }

    pub(super) fn remove(&self, name: &str) {
        fs::remove_file(self.cgroup().join(name)).unwrap();
    }
}

/// What may be in a file: anything, and what looks like the kernel's.
pub(super) fn contents() -> impl Strategy<Value = String> {
    prop_oneof!["(?s).{0,200}", "([a-z_]{1,8}|[0-9]{1,21}|[ :=.\n-]|max|rbytes=){0,60}"]
}

#[test]
fn page_sizes_are_named_as_in_hugetlb_files() {
    let table = [
        ("hugepages-64kB", Some("64KB")),
        ("hugepages-1024kB", Some("1MB")),
        ("hugepages-2048kB", Some("2MB")),
        ("hugepages-32768kB", Some("32MB")),
        ("hugepages-1048576kB", Some("1GB")),
        ("hugepages-16777216kB", Some("16GB")),
        ("hugepages-2048", None),
        ("hugepages-kB", None),
        ("2048kB", None),
    ];
    for (name, size) in table {
        assert_eq!(page_size(name).as_deref(), size, "{name}");
    }
    assert_eq!(page_sizes(Fixture::new("v2").root()), ["1GB", "2MB"]);
    assert_eq!(page_sizes(Path::new("/nonexistent")), [""; 0]);
}

#[test]
fn rdma_devices_and_their_limits() {
    let entry = |device: &str, hca_handles, hca_objects| RdmaEntry {
        device: device.to_owned(),
        hca_handles,
        hca_objects,
    };
    let text = "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=max\n";
    let expected = [entry("mlx4_0", 2, 2000), entry("ocrdma1", 3, u32::MAX)];
    assert_eq!(rdma_entries(text), expected);
    let odd = "a\nb hca_handle=1\nc hca_handle=1 hca_object=2 x=3\n";
    assert_eq!(rdma_entries(odd), []);
    let odd = "a hca_object=4294967296 hca_handle=-1\nb x y\n";
    assert_eq!(rdma_entries(odd), [entry("a", 0, 0), entry("b", 0, 0)]);
}

#[test]
fn a_lone_number_is_a_number_the_word_max_or_nothing() {
    let fixture = Fixture::new("v2");
    let table = [
        ("7\n", Some(7)),
        ("max\n", Some(99)),
        ("-1\n", Some(0)),
        ("", None),
        ("seven\n", None),
        ("99999999999999999999\n", None),
    ];
    for (text, expected) in table {
        fixture.write("pids.max", text);
        assert_eq!(value(&fixture.cgroup(), "pids.max", 99), expected, "{text:?}");
    }
    assert_eq!(value(&fixture.cgroup(), "missing", 99), None);
    // No file at all, and no text.
    assert_eq!(text(fixture.root(), "cgroup"), None);
}

proptest! {
    #[test]
    fn any_text_is_survived(text in contents()) {
        rdma_entries(&text);
        page_size(&text);
    }
}
