// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::error::ErrorKind;
use crate::hierarchy::{Mode, mode};

fn paths(entries: &[(&str, &Path)]) -> BTreeMap<String, PathBuf> {
    entries.iter().map(|(name, path)| ((*name).to_owned(), path.to_path_buf())).collect()
}

/// A hierarchy's root, of the version this machine has.
fn root() -> &'static Path {
    Path::new(match mode() {
        Mode::Legacy => "/sys/fs/cgroup/memory",
        Mode::Unified => "/sys/fs/cgroup",
    })
}

#[test]
fn what_is_not_a_cgroup_of_its_own_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(root(), &link).unwrap();
    let file = root().join("cgroup.procs");
    let up = root().join("x/../y");
    for path in
        [root(), dir.path(), &link, &file, &up, Path::new("/"), Path::new("sys"), Path::new("")]
    {
        let err = Tree::recorded(&paths(&[("", path)])).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Unsupported, "{path:?}: {err}");
    }
}

#[test]
fn one_path_without_a_name_is_v2_and_more_must_have_what_is_needed() {
    let gone = Path::new("/sys/fs/cgroup/wedge-test-none/x");
    let v2 = Tree::recorded(&paths(&[("", gone)])).unwrap();
    assert_eq!(v2.all(), [gone]);
    let v1 = |names: &[&'static str]| {
        Tree::recorded(&paths(&names.iter().map(|name| (*name, gone)).collect::<Vec<_>>()))
    };
    assert_eq!(v1(&["", "devices", "freezer", "pids"]).unwrap().all().len(), 4);
    for (names, missing) in [
        (&[][..], "devices"),
        (&["cpu"], "devices"),
        (&["", "freezer"], "devices"),
        (&["devices", ""], "freezer"),
    ] {
        let err = v1(names).unwrap_err().to_string();
        assert!(err.contains(&format!("controller {missing:?}")), "{names:?}: {err}");
    }
}

#[tokio::test]
async fn a_tree_that_is_gone_has_nobody_and_is_done_with() {
    let gone = Path::new("/sys/fs/cgroup/wedge-test-none/x");
    let v1 = paths(&[("devices", gone), ("freezer", gone)]);
    for tree in [paths(&[("", gone)]), v1].map(|paths| Tree::recorded(&paths).unwrap()) {
        assert!(!tree.is_frozen());
        assert_eq!(tree.pids().await.unwrap(), [0; 0]);
        assert!(!tree.signal(9).await.unwrap() && !tree.signal(15).await.unwrap());
        assert_eq!(tree.freeze().await.unwrap_err().kind(), ErrorKind::Gone);
        tree.thaw().unwrap();
        tree.remove().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_below_comes_after_what_it_is_in_and_links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    for sub in ["a/b/c", "a/d", "e"] {
        fs::create_dir_all(dir.path().join(sub)).unwrap();
    }
    fs::write(dir.path().join("file"), "").unwrap();
    std::os::unix::fs::symlink("/sys", dir.path().join("a/link")).unwrap();
    let found = below(dir.path()).await.unwrap();
    assert_eq!(found.len(), 6, "{found:?}");
    for (place, path) in found.iter().enumerate().skip(1) {
        let above = found.iter().position(|above| Some(above.as_path()) == path.parent());
        assert!(above.is_some_and(|above| above < place), "{found:?}");
    }
}
