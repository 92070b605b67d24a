// SPDX-License-Identifier: Apache-2.0
//! Create: bundle files, rootfs, streams, the OCI runtime's create; undone in reverse on failure.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wedge_oci::{Bundle, Mount, Options};
use wedge_reaper::Expectation;
use wedge_stdio::Request;

use crate::error::{Error, Result};
use crate::event::Event;
use crate::lock;
use crate::start::{Restore, Spawning};
use crate::task::{Shared, Task};

/// What Create asks for.
#[derive(Debug)]
pub struct CreateRequest {
    /// The new container's id, unique in the shim.
    pub id: String,
    /// The absolute path of its OCI bundle.
    pub bundle: PathBuf,
    /// Mounts that make its root filesystem, in order; none when it is already there.
    pub rootfs: Vec<Mount>,
    /// The streams of its init.
    pub stdio: Request,
    /// The directory of a checkpoint to restore, or empty.
    pub checkpoint: String,
    /// The runtime options.
    pub options: Options,
}

impl CreateRequest {
    fn check(&self) -> Result<()> {
        if !self.bundle.is_absolute() {
            let text = format!("bundle path {:?} is not absolute", self.bundle);
            return Err(Error::InvalidArgument(text));
        }
        Ok(())
    }
}

/// Creates the container and announces it. On failure nothing is left behind.
pub(crate) async fn create(request: CreateRequest, shared: Shared) -> Result<Arc<Task>> {
    request.check()?;
    let bundle = Bundle::new(&request.bundle);
    let rootfs = bundle.rootfs();
    bundle.write_options(&request.options)?;
    bundle.write_runtime(&request.options.binary_name)?;
    wedge_oci::mount_rootfs(&shared.reaper, &request.rootfs, &rootfs).await?;
    let task = Arc::new(Task::new(&request, bundle, shared));
    match make(&task, &request.checkpoint).await {
        Ok(pid) => {
            announce(&task, request, pid);
            Ok(task)
        }
        Err(err) => {
            if task.rootfs_mounted {
                unmount(&task, &rootfs).await;
            }
            Err(err)
        }
    }
}

async fn unmount(task: &Task, rootfs: &Path) {
    if let Err(err) = wedge_oci::unmount_recursive(&task.reaper, rootfs).await {
        log::warn!(id = task.id.as_str(); "failed to cleanup rootfs mount: {err}");
    }
}

/// The pid of the new init.
async fn make(task: &Arc<Task>, checkpoint: &str) -> Result<u32> {
    match checkpoint {
        "" => create_init(task).await,
        image_path => prepare_restore(task, image_path).await,
    }
}

/// Start will make the container from its checkpoint; for now it has no process, and pid 0.
async fn prepare_restore(task: &Task, image_path: &str) -> Result<u32> {
    let mut spawning = Spawning::new(task, &task.init).await?;
    spawning.bind_console(&task.init)?;
    task.init.lifecycle().checkpointed();
    *lock(&task.restore) = Some(Restore { image_path: image_path.into(), spawning });
    Ok(0)
}

async fn create_init(task: &Arc<Task>) -> Result<u32> {
    let mut spawning = Spawning::new(task, &task.init).await?;
    spawning.bind_console(&task.init)?;
    let expectation = task.reaper.expect();
    let io = spawning.child_io();
    let created = task.runtime.create(io, spawning.console.as_ref()).await;
    // A runtime that was killed may have made the container.
    let exists = created.as_ref().err().is_none_or(wedge_oci::Error::is_cut_short);
    let result = match created {
        Ok(()) => connect_init(task, spawning, expectation).await,
        Err(err) => Err(err.into()),
    };
    if result.is_err() {
        if exists && let Err(delete) = task.runtime.delete(true).await {
            log::warn!(id = task.id.as_str(); "failed to remove a half-made container: {delete}");
        }
        task.remove_pid_file(&task.init);
        task.init.close_streams();
    }
    result
}

async fn connect_init(
    task: &Arc<Task>,
    spawning: Spawning,
    expectation: Expectation,
) -> Result<u32> {
    let pid = task.runtime.init_pid().await?;
    let pid = spawning.finish(task, &task.init, expectation, pid).await?;
    task.find_surroundings(pid);
    Ok(pid)
}

/// The event first, then an exit that was held meanwhile.
fn announce(task: &Arc<Task>, request: CreateRequest, pid: u32) {
    task.events.send(Event::Create {
        container_id: request.id,
        bundle: request.bundle,
        rootfs: request.rootfs,
        stdio: request.stdio,
        checkpoint: request.checkpoint,
        pid,
    });
    let early = task.init.lifecycle().commit();
    if let Some(exit) = early {
        task.settle_later(&task.init, exit);
    }
}
