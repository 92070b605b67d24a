// SPDX-License-Identifier: Apache-2.0
use super::*;
use std::os::unix::net::UnixStream;
use std::sync::Barrier;

const CONTAINERD: &str = "/run/containerd/containerd.sock";

fn fresh(path: &Path) -> Socket {
    match take(path).unwrap() {
        Bound::Fresh(socket) => socket,
        Bound::Live => panic!("live: {path:?}"),
    }
}

#[test]
fn addresses_are_those_containerd_computes() {
    let main =
        "unix:///run/containerd/s/cfa94b04d543b3f64f78eff8125c7a7cd0903173f673d87367be72ff09fc92c2";
    let debug =
        "unix:///run/containerd/s/233bc0c87750407ab8f9bd8012ac573b04eeacb3bf018334d7eb61474f49533d";
    assert_eq!(address(None, CONTAINERD, "default", "test"), main);
    assert_eq!(debug_address(None, CONTAINERD, "default", "test"), debug);
    let dir = Some(Path::new("/tmp/sockets/"));
    let there = main.replace("/run/containerd/s/", "/tmp/sockets/");
    assert_eq!(address(dir, CONTAINERD, "default", "test"), there);
    for unclean in [
        "/run//containerd/containerd.sock/",
        "/run/./containerd/x/../containerd.sock",
        "/../run/containerd/containerd.sock",
    ] {
        assert_eq!(address(None, unclean, "default", "test"), main, "{unclean}");
    }
}

#[test]
fn paths_are_joined_as_by_go() {
    let table: [(&[&str], &str); 12] = [
        (&["/a", "b", "c"], "/a/b/c"),
        (&["", "b", "c"], "b/c"),
        (&["", "", "c"], "c"),
        (&["", "", ""], ""),
        (&["/", "", ""], "/"),
        (&["/a/../..", "b"], "/b"),
        (&["a/../..", "b"], "../b"),
        (&["../a", "../.."], "../.."),
        (&["a", ".."], "."),
        (&["./a//", "/b/", "."], "a/b"),
        (&["a", "/"], "a"),
        (&["."], "."),
    ];
    for (parts, expected) in table {
        assert_eq!(join(parts), expected, "{parts:?}");
    }
}

#[test]
fn a_fresh_socket_is_private_whatever_the_umask() {
    for umask in [0o000, 0o022, 0o777] {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s/socket");
        std::fs::create_dir(temp.path().join("s")).unwrap();
        let before = nix::sys::stat::umask(Mode::from_bits_truncate(umask));
        let taken = take(&path);
        nix::sys::stat::umask(before);
        assert!(matches!(taken, Ok(Bound::Fresh(_))), "{taken:?}");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "umask {umask:o}");
    }
    let temp = tempfile::tempdir().unwrap();
    let _socket = fresh(&temp.path().join("made/s/socket"));
    let mode = std::fs::metadata(temp.path().join("made/s")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

#[tokio::test]
async fn a_live_socket_is_reused_even_with_a_full_backlog() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("socket");
    let fd = stream_socket().unwrap();
    bind(fd.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&fd, Backlog::new(0).unwrap()).unwrap();
    let mut clients = Vec::new();
    for _ in 0..3 {
        assert!(matches!(take(&path), Ok(Bound::Live)));
        let client = stream_socket().unwrap();
        let full = connect(client.as_raw_fd(), &UnixAddr::new(&path).unwrap());
        clients.push((client, full));
    }
    assert_eq!(clients.last().unwrap().1, Err(Errno::EAGAIN));
    remove_stale(&path).await.unwrap();
    assert!(path.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_nothing_else_is_left() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("socket");
    drop(fresh(&path));
    assert!(path.exists());
    let (listener, _file) = fresh(&path).into_parts();
    let _client = UnixStream::connect(&path).unwrap();
    listener.accept().unwrap();
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[test]
fn concurrent_takers_of_a_stale_socket_agree_on_one() {
    const TAKERS: usize = 8;
    for _ in 0..50 {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        drop(fresh(&path));
        let together = Barrier::new(TAKERS);
        let taken: Vec<Bound> = std::thread::scope(|scope| {
            let take_it = || {
                together.wait();
                take(&path).unwrap()
            };
            let takers: Vec<_> = (0..TAKERS).map(|_| scope.spawn(take_it)).collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).collect()
        });
        let fresh: Vec<_> = taken.iter().filter(|it| matches!(it, Bound::Fresh(_))).collect();
        let [Bound::Fresh(winner)] = fresh.as_slice() else { panic!("not one: {taken:?}") };
        // What the losers will tell containerd leads to the winner.
        let _client = UnixStream::connect(&path).unwrap();
        winner.listener.accept().unwrap();
    }
}

#[test]
fn only_our_own_file_is_removed() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("socket");
    let (_listener, file) = fresh(&path).into_parts();
    std::fs::remove_file(&path).unwrap();
    file.remove().unwrap();
    let (_other, theirs) = fresh(&path).into_parts();
    file.remove().unwrap();
    assert!(path.exists());
    theirs.remove().unwrap();
    assert!(!path.exists());
}

#[test]
fn an_inherited_socket_knows_its_file() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("socket");
    let (listener, _file) = fresh(&path).into_parts();
    let (_listener, file) = Socket::adopt(listener.into()).unwrap().into_parts();
    file.remove().unwrap();
    assert!(!path.exists());
    let (unbound, _other) = UnixStream::pair().unwrap();
    assert!(Socket::adopt(unbound.into()).is_err());
}

#[tokio::test(start_paused = true)]
async fn who_removes_a_socket_waits_for_its_turn_and_not_for_ever() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("socket");
    drop(fresh(&path));
    let held = lock(temp.path(), FlockArg::LockExclusive).unwrap();
    let refused = remove_stale(&path).await.unwrap_err();
    assert!(matches!(&refused, Error::File { action: "lock", .. }), "{refused}");
    let mut removed = std::pin::pin!(remove_stale(&path));
    let waits = tokio::time::timeout(LOCK_PAUSE, &mut removed).await;
    waits.expect_err("somebody has the lock");
    drop(held);
    removed.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_dead_shims_socket_is_removed_and_other_files_are_not() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("socket");
    drop(fresh(&path));
    remove_stale(&path).await.unwrap();
    assert!(!path.exists());
    remove_stale(&path).await.unwrap();
    std::fs::write(&path, "no socket").unwrap();
    remove_stale(&path).await.unwrap();
    assert!(path.exists());
}

#[test]
fn a_path_that_does_not_fit_is_named() {
    let path = PathBuf::from(format!("/tmp/{}", "x".repeat(102)));
    let text = take(&path).unwrap_err().to_string();
    assert_eq!(text, format!("{path:?}: unix socket path too long (> 106)"));
}
