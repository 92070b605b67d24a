// SPDX-License-Identifier: Apache-2.0
//! A user namespace made only to say how a mount maps ids.

use std::fs::{self, File};
use std::os::fd::OwnedFd;

use wedge_reaper::{Child, Reaper};

use crate::error::{Error, Result, on_step};

/// Makes a user namespace with these maps, `container-id:host-id:size[,…]` each. It lives as long
/// as the descriptor or a mount that uses it. To be called from the thread that drives the runtime.
///
/// # Errors
/// When a map makes no sense, and when the kernel refuses it, in containerd's words.
pub(super) fn user_namespace(reaper: &Reaper, users: &str, groups: &str) -> Result<OwnedFd> {
    let (users, groups) = (parse(users)?, parse(groups)?);
    let holder = Holder::start(reaper)?;
    let dir = format!("/proc/{}", holder.0.pid);
    let open = on_step(format!("failed to get userns file descriptor for {dir}/user/ns"));
    let namespace = File::open(format!("{dir}/ns/user")).map_err(open)?;
    for (file, map) in [("uid_map", users), ("gid_map", groups)] {
        let path = format!("{dir}/{file}");
        fs::write(&path, map).map_err(on_step(format!("failed to write {path}")))?;
    }
    Ok(namespace.into())
}

/// The process in the namespace, killed when this is dropped. Nobody waits for its pid to become
/// free: that is the reaper's business.
struct Holder(Child);

impl Holder {
    fn start(reaper: &Reaper) -> Result<Holder> {
        let child = reaper.spawn_in_user_namespace();
        child.map(Holder).map_err(on_step("failed to start noop process for unshare"))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Err(err) = self.0.kill() {
            log::warn!(pid = self.0.pid; "failed to kill the holder of a user namespace: {err}");
        }
    }
}

/// From containerd's form to that of `/proc/<pid>/uid_map`.
fn parse(maps: &str) -> Result<String> {
    maps.split(',').map(parse_one).collect()
}

fn parse_one(map: &str) -> Result<String> {
    let wrong = |problem: String| Error::IdMap { problem };
    let numbers: Vec<&str> = map.split(':').collect();
    let [container, host, size] = numbers.as_slice() else {
        let form = "user namespace mappings require the format `container-id:host-id:size`";
        return Err(wrong(form.to_owned()));
    };
    let number = |what: &str, text: &str| {
        text.parse::<i64>().map_err(|_| {
            let cause = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
            wrong(format!("invalid {what} for user namespace remapping, {cause}"))
        })
    };
    let container = number("container id", container)?;
    let host = number("host id", host)?;
    let size = number("size", size)?;
    if container < 0 || host < 0 || size < 0 {
        let text = format!("invalid mapping {map}, all IDs and size must be positive integers");
        return Err(wrong(text));
    }
    Ok(format!("{container} {host} {size}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_as_containerd_does() {
        assert_eq!(parse("0:100000:65536").unwrap(), "0 100000 65536\n");
        assert_eq!(parse("0:1:2,5:6:7").unwrap(), "0 1 2\n5 6 7\n");
        for (map, text) in [
            ("", "user namespace mappings require the format `container-id:host-id:size`"),
            ("0:1", "user namespace mappings require the format `container-id:host-id:size`"),
            ("0:1:2,", "user namespace mappings require the format `container-id:host-id:size`"),
            (
                "x:1:2",
                "invalid container id for user namespace remapping, strconv.Atoi: parsing \"x\": \
                 invalid syntax",
            ),
            (
                "0::2",
                "invalid host id for user namespace remapping, strconv.Atoi: parsing \"\": \
                 invalid syntax",
            ),
            (
                "0:1:y",
                "invalid size for user namespace remapping, strconv.Atoi: parsing \"y\": invalid \
                 syntax",
            ),
            ("0:-1:2", "invalid mapping 0:-1:2, all IDs and size must be positive integers"),
        ] {
            let err = parse(map).unwrap_err().to_string();
            assert_eq!(err, format!("failed to mount rootfs component: {text}"), "{map}");
        }
    }
}
