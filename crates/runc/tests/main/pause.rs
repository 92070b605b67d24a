// SPDX-License-Identifier: Apache-2.0
//! `pause` and `resume` beside runc's.

use crate::support::{Setup, failed, left};

const NOT_RUNNING: &str = "OCI runtime pause failed: container not running";
const NOT_PAUSED: &str = "OCI runtime resume failed: container not paused";

#[test]
fn a_container_is_paused_and_resumed_by_either() {
    Setup::new().run(async |bench| {
        bench.start().await;
        let (container, init) = (bench.container(), Some(&bench.init));
        assert_eq!(failed(container.resume().await), NOT_PAUSED);
        assert_eq!(bench.runc_refuses("resume", &[]).await, "container not paused");
        container.pause(init).await.unwrap();
        assert_eq!(bench.status().await, "paused");
        assert_eq!(failed(container.pause(init).await), NOT_RUNNING);
        assert_eq!(bench.runc_refuses("pause", &[]).await, "container not running");
        bench.by_runc("resume", &[]).await;
        assert_eq!(bench.status().await, "running");
        bench.by_runc("pause", &[]).await;
        container.resume().await.unwrap();
        assert_eq!(bench.status().await, "running");
        container.pause(init).await.unwrap();
        let said = bench.runc_refuses("exec", &["/bin/busybox", "true"]).await;
        assert!(said.contains("cannot exec in a paused container"), "{said}");
        container.resume().await.unwrap();
        bench.by_runc("exec", &["/bin/busybox", "true"]).await;
    });
}

#[test]
fn a_created_container_can_be_paused() {
    Setup::new().run(async |bench| {
        let container = bench.container();
        container.pause(Some(&bench.init)).await.unwrap();
        assert_eq!(bench.status().await, "paused");
        container.resume().await.unwrap();
        assert_eq!(bench.status().await, "created");
    });
}

#[test]
fn what_has_stopped_is_not_paused() {
    Setup::new().run(async |bench| {
        let container = bench.container();
        bench.kill_init().await;
        assert_eq!(failed(container.pause(Some(&bench.init)).await), NOT_RUNNING);
        assert_eq!(failed(container.pause(None).await), NOT_RUNNING);
        assert_eq!(bench.runc_refuses("pause", &[]).await, "container not running");
        bench.by_runc("delete", &[]).await;
        assert!(!left(container.pause(None).await).is_empty());
        assert!(!left(container.resume().await).is_empty());
    });
}
