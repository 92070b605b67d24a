// SPDX-License-Identifier: Apache-2.0

use std::fs;

use super::{isolated_cpus, read_from};

fn isolated(cmdline: &str, sysfs: Option<&str>) -> Option<String> {
    isolated_cpus(cmdline, sysfs).unwrap().map(|set| set.to_string())
}

#[test]
fn the_boot_parameter_comes_first() {
    let cases = [
        ("", None, None),
        ("quiet", None, None),
        ("nohz_full=0-4\n", None, Some("0-4")),
        ("quiet nohz_full=2-15,18-31 ro", Some("1\n"), Some("2-15,18-31")),
        ("quiet", Some("0-4\n"), Some("0-4")),
        ("quiet", Some("(null)\n"), None),
        ("quiet", Some("\n"), None),
        ("nohz_full=", Some("3\n"), Some("3")),
        ("nohz_full", Some("3\n"), Some("3")),
        // Only this one counts.
        ("isolcpus=1-3", Some("(null)\n"), None),
        ("isolcpus=nohz,domain,1-3 nohz_full=2,3", None, Some("2-3")),
        ("xnohz_full=1 nohz_full.x=2", None, None),
        // As parse_args() reads it.
        ("nohz-full=1", None, Some("1")),
        ("nohz_full=\"1-2, 5\" ro", None, Some("1-2,5")),
        ("\"nohz_full=1-2, 5\" ro", None, Some("1-2,5")),
        ("append=\"a nohz_full=1 b\" nohz_full=2", None, Some("2")),
        ("nohz_full=1 nohz_full=2", None, Some("1")),
        ("ro -- --verbose nohz_full=1", None, None),
        ("nohz_full=0-7:1/2", None, Some("0,2,4,6")),
        ("nohz_full=all", None, Some("0-8191")),
        ("nohz_full=8-N", None, Some("8-8191")),
    ];
    for (cmdline, sysfs, expected) in cases {
        assert_eq!(isolated(cmdline, sysfs).as_deref(), expected, "{cmdline:?} {sysfs:?}");
    }
}

#[test]
fn bad_lists_are_errors() {
    let cases = [("nohz_full=bad", None), ("nohz_full=bad", Some("1\n")), ("quiet", Some("bad\n"))];
    for (cmdline, sysfs) in cases {
        let error = isolated_cpus(cmdline, sysfs).unwrap_err();
        let expected = "getting CPU affinity: getting eligible cpu: parsing isolated cpus list bad";
        assert_eq!(error.to_string(), expected, "{cmdline:?} {sysfs:?}");
    }
}

#[test]
fn files_need_not_exist() {
    let dir = tempfile::tempdir().unwrap();
    let (cmdline, sysfs) = (dir.path().join("cmdline"), dir.path().join("nohz_full"));
    let read = || read_from(&cmdline, &sysfs).unwrap().map(|set| set.to_string());
    assert_eq!(read(), None);
    fs::write(&sysfs, "4-7\n").unwrap();
    assert_eq!(read().as_deref(), Some("4-7"));
    fs::write(&cmdline, b"name=\xff nohz_full=2\n").unwrap();
    assert_eq!(read().as_deref(), Some("2"));
    // Not a missing file, but no text either.
    fs::remove_file(&cmdline).unwrap();
    fs::create_dir(&cmdline).unwrap();
    assert_eq!(read().as_deref(), Some("4-7"));
}
