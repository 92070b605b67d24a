// SPDX-License-Identifier: Apache-2.0
//! The ways in which a handler can name the shim, and hand options to it.

use std::fs;

use anyhow::{Result, ensure};
use wedge_cri_tests::Node;
use wedge_integration::proc::Proc;

/// The drop-in way: in the place of containerd's own, whose options are typed. (The other place to
/// name a binary, `runtime_path`, is ignored by containerd 1.6: #8207.)
#[test]
fn a_shim_may_have_the_name_of_containerds_own() -> Result<()> {
    let node = Node::start()?;
    node.upgrade_runc(node.shim())?;
    let pod = node.run_pod(node.pod_config("drop-in")?, "runc")?;
    let shim = Proc::shim("k8s.io", pod.id())?;
    assert_eq!(fs::read_link(shim.path("exe"))?, fs::canonicalize(node.shim().path())?);
    let container = pod.run(&node, "main", &["sleep", "1000"])?;
    assert_eq!(container.exec(&["echo", "hello"])?, "hello\n");
    let state = node.dir().join("runc/k8s.io").join(container.id());
    ensure!(state.is_dir(), "the options did not arrive");
    pod.end(&node)?;
    node.finish()
}

#[test]
fn an_unknown_handler_is_refused() -> Result<()> {
    let node = Node::start()?;
    let error = node.run_pod(node.pod_config("none")?, "absent").expect_err("there is none");
    ensure!(error.message().contains("no runtime for \"absent\" is configured"), "{error}");
    node.finish()
}
