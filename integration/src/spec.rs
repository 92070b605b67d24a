// SPDX-License-Identifier: Apache-2.0
//! OCI configurations like the ones containerd writes (oci/spec.go), changed by a test.

use std::path::Path;

use serde_json::{Value, json};

use crate::proc::Proc;

/// A `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec(Value);

impl Spec {
    /// A container that runs `args` as root with containerd's defaults: its own pid, ipc, uts,
    /// mount and network namespaces, 14 capabilities, no seccomp profile.
    pub fn new<S: AsRef<str>>(args: impl IntoIterator<Item = S>) -> Spec {
        Spec(json!({
            "ociVersion": "1.0.2",
            "process": Process::new(args).0,
            "root": { "path": "rootfs" },
            "mounts": mounts(),
            "linux": {
                "resources": {
                    "devices": [{ "allow": false, "access": "rwm" }],
                },
                "namespaces": (["pid", "ipc", "uts", "mount", "network"].map(namespace)),
            },
        }))
    }

    /// Sets any value by JSON pointer; the parent object must exist.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Spec {
        let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", pointer));
        if let Some(Value::Object(parent)) = self.0.pointer_mut(parent) {
            parent.insert(key.replace("~1", "/").replace("~0", "~"), value.into());
        }
        self
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Spec {
        if self.0.get("annotations").is_none() {
            self = self.set("/annotations", json!({}));
        }
        let key = name.replace('~', "~0").replace('/', "~1");
        self.set(&format!("/annotations/{key}"), value)
    }

    /// Puts the container into the pod of `sandbox`, as CRI does.
    #[must_use]
    pub fn pod(self, sandbox: &str) -> Spec {
        self.annotation("io.kubernetes.cri.sandbox-id", sandbox)
    }

    /// Limits its memory, in bytes.
    #[must_use]
    pub fn memory_limit(self, bytes: u64) -> Spec {
        self.set("/linux/resources/memory", json!({ "limit": bytes }))
    }

    /// Adds a mount.
    #[must_use]
    pub fn mount(mut self, kind: &str, source: &Path, to: &str, options: &[&str]) -> Spec {
        if let Some(Value::Array(all)) = self.0.get_mut("mounts") {
            let source = source.to_string_lossy();
            all.push(
                json!({ "type": kind, "source": source, "destination": to, "options": options }),
            );
        }
        self
    }

    /// Gives it all capabilities there are, all devices and a writable /sys, as `ctr run --privileged` does.
    #[must_use]
    pub fn privileged(self) -> Spec {
        let all = own_capabilities();
        let sets = json!({ "bounding": all, "effective": all, "permitted": all });
        let mut spec = self
            .set("/process/capabilities", sets)
            .set("/process/noNewPrivileges", false)
            .set("/linux/resources/devices", json!([{ "allow": true, "access": "rwm" }]));
        for mount in spec.0.get_mut("mounts").and_then(Value::as_array_mut).into_iter().flatten() {
            if mount.get("destination") == Some(&json!("/sys")) {
                *mount = sysfs("rw");
            }
        }
        spec
    }

    /// Gives the init process a terminal.
    #[must_use]
    pub fn terminal(self) -> Spec {
        self.set("/process/terminal", true)
    }

    /// Shares the host's pid namespace.
    #[must_use]
    pub fn host_pid(mut self) -> Spec {
        if let Some(Value::Array(all)) = self.0.pointer_mut("/linux/namespaces") {
            all.retain(|namespace| namespace.get("type") != Some(&json!("pid")));
        }
        self
    }

    /// Sets the root file system.
    #[must_use]
    pub fn root(self, path: &Path) -> Spec {
        self.set("/root/path", path.to_string_lossy().into_owned())
    }

    /// Sets the cgroup path.
    #[must_use]
    pub fn cgroup(self, path: &str) -> Spec {
        self.set("/linux/cgroupsPath", path)
    }

    /// The `process` object.
    pub fn process(&self) -> Process {
        Process(self.0.get("process").cloned().unwrap_or_default())
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        self.0.to_string()
    }
}

/// An OCI `process`, as an exec request carries it.
#[derive(Debug, Clone, PartialEq)]
pub struct Process(Value);

impl Process {
    /// Runs `args` as root in `/` with `PATH=/bin` and containerd's capabilities.
    pub fn new<S: AsRef<str>>(args: impl IntoIterator<Item = S>) -> Process {
        let args: Vec<Value> = args.into_iter().map(|arg| json!(arg.as_ref())).collect();
        let caps = capabilities();
        Process(json!({
            "args": args,
            "cwd": "/",
            "env": ["PATH=/bin"],
            "user": { "uid": 0, "gid": 0 },
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "noNewPrivileges": true,
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
        }))
    }

    /// Sets a member.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Process {
        if let Value::Object(object) = &mut self.0 {
            object.insert(key.to_owned(), value.into());
        }
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Process {
        if let Some(Value::Array(all)) = self.0.get_mut("env") {
            all.push(json!(format!("{name}={value}")));
        }
        self
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        self.0.to_string()
    }
}

fn namespace(kind: &str) -> Value {
    json!({ "type": kind })
}

fn capabilities() -> Vec<String> {
    const USUAL: &str = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP \
        SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE";
    USUAL.split_whitespace().map(capability).collect()
}

/// By number, include/uapi/linux/capability.h.
const ALL: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP \
    LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE \
    SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME \
    SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG \
    WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";

/// Those that this process may give.
fn own_capabilities() -> Vec<String> {
    let status = Proc(std::process::id()).status("CapBnd").unwrap_or_default();
    let own = u64::from_str_radix(&status, 16).unwrap_or_default();
    let has = |number: usize| own >> number & 1 == 1;
    let all = ALL.split_whitespace().enumerate();
    all.filter(|(number, _)| has(*number)).map(|(_, name)| capability(name)).collect()
}

fn capability(name: &str) -> String {
    format!("CAP_{name}")
}

fn sysfs(access: &str) -> Value {
    json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", access] })
}

fn mounts() -> Value {
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc",
          "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
          "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
          "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
          "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
        (sysfs("ro")),
        { "destination": "/run", "type": "tmpfs", "source": "tmpfs",
          "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
    ])
}
