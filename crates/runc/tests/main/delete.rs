// SPDX-License-Identifier: Apache-2.0
//! `delete` of what has stopped, beside `runc delete`.

use std::fs;

use crate::support::{Setup, left, on_reaper, until};

#[test]
fn nothing_is_left_of_what_has_stopped() {
    Setup::new().run(async |bench| {
        bench.start().await;
        let (container, cgroups) = (bench.container(), bench.cgroups());
        for path in cgroups.values() {
            fs::create_dir_all(path.join("sub/deeper")).unwrap();
        }
        bench.kill_init().await;
        container.delete().await.unwrap();
        bench.assert_gone(&cgroups);
        assert_eq!(bench.runc_refuses("state", &[]).await, "container does not exist");
        let (_, list) = bench.runc(&["list", "--quiet"]).await;
        assert_eq!(list, "");
        assert!(!left(container.delete().await).is_empty(), "the second time");
    });
}

#[test]
fn nothing_is_left_of_what_was_never_started() {
    Setup::new().run(async |bench| {
        let (container, cgroups) = (bench.container(), bench.cgroups());
        bench.kill_init().await;
        container.delete().await.unwrap();
        bench.assert_gone(&cgroups);
    });
}

#[test]
fn what_lives_is_not_deleted() {
    Setup::new().run(async |bench| {
        let container = bench.container();
        for status in ["created", "running"] {
            assert_eq!(left(container.delete().await), "its init has not been reaped");
            assert_eq!(bench.status().await, status);
            if status == "created" {
                bench.start().await;
            }
        }
        bench.by_runc("pause", &[]).await;
        assert!(!left(container.delete().await).is_empty());
        assert_eq!(bench.status().await, "paused");
    });
}

#[test]
fn who_is_left_in_a_shared_pid_namespace_goes_with_it() {
    Setup::shared().run(async |bench| {
        bench.start().await;
        until("it has a child", || (bench.members() == 2).then_some(())).await;
        let (container, cgroups) = (bench.container(), bench.cgroups());
        bench.kill_init().await;
        assert_eq!(bench.members(), 1);
        bench.delete(&container).await;
        bench.assert_gone(&cgroups);
    });
}

/// Who was put into it from outside keeps the cgroup: runc is asked, which has its own words.
#[test]
fn a_cgroup_that_stays_is_left_to_runc() {
    Setup::new().run(async |bench| {
        let (container, cgroups) = (bench.container(), bench.cgroups());
        bench.kill_init().await;
        let stranger = bench.stranger();
        let reason = left(container.delete().await);
        assert!(reason.contains("failed to remove"), "{reason}");
        assert_eq!(bench.status().await, "stopped", "runc still knows it");
        drop(stranger);
        until("the stranger has gone", || (bench.members() == 0).then_some(())).await;
        container.delete().await.unwrap();
        bench.assert_gone(&cgroups);
    });
}

/// Its directory may even have the number of the old one.
#[test]
fn a_container_made_later_under_the_same_name_is_another() {
    let setup = Setup::new();
    on_reaper(async |reaper| {
        let first = setup.create(reaper).await;
        let container = first.container();
        first.by_runc("delete", &["--force"]).await;
        first.ended().await;
        let second = setup.create(reaper).await;
        assert!(left(container.delete().await).contains("another container"));
        assert_eq!(second.status().await, "created");
        let limit = crate::support::LIMIT;
        assert!(!left(container.start(Some(&second.init), limit).await).is_empty());
        assert!(!left(container.kill(Some(&second.init), 9, true).await).is_empty());
        assert_eq!(second.status().await, "created");
    });
}
