// SPDX-License-Identifier: Apache-2.0
//! Where processes are: in the cgroup that the kubelet's driver makes for them.

use anyhow::{Context, Result, ensure};
use wedge_cri_tests::Node;
use wedge_integration::proc::Proc;
use wedge_integration::wait;

#[test]
fn pause_inits_and_execs_are_in_the_cgroups_of_the_pod() -> Result<()> {
    let node = Node::start()?;
    let pod = node.pod("placed")?;
    let container = pod.run(&node, "main", &["sleep", "1001"])?;
    let exec = container.exec_stream(&["sleep", "1002"], true, false)?;
    for (id, arg) in [(pod.id(), "pause"), (container.id(), "1001"), (container.id(), "1002")] {
        let path = pod.cgroup_of(&node, id);
        let process = wait::until(&format!("{arg} is in {path}"), || {
            let is_it =
                |proc: &Proc| proc.args().is_ok_and(|args| args.last() == Some(&arg.into()));
            let is_there = |proc: &Proc| proc.cgroups().is_ok_and(|text| text.contains(&path));
            Proc::all().into_iter().filter(is_it).find(is_there).context("nowhere")
        })?;
        // That of cgroup v2 beside those of v1 is none of runc's.
        let all = process.cgroups()?;
        let unified = all.lines().count() == 1;
        let decides = |line: &&str| unified || line.contains(":memory:") || line.contains(":pids:");
        for line in all.lines().filter(decides) {
            ensure!(line.ends_with(&format!(":{path}")), "{arg} is not in {path}:\n{all}");
        }
    }
    drop(exec);
    container.remove()?;
    pod.end(&node)?;
    node.finish()
}
