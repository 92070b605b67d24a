// SPDX-License-Identifier: Apache-2.0
//! How each generation of containerd starts a shim: what it says on standard input, in the
//! environment and as flags, which answer it takes, and which service it calls then
//! (containerd's core/runtime/v2: binary.go, bridge.go, shim.go).
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use protobuf::{EnumOrUnknown, Message, MessageField};
use wedge_integration::proc::{Proc, wait_gone};
use wedge_integration::protos::bootstrap_api::{BootstrapParams, Extension};
use wedge_integration::{
    Bundle, Lab, Output, ShimProcess, ShimUnderTest, Spec, Stdio, TASK_V2, TASK_V3, payload,
};

/// A daemon, and the shim's configuration (docs/configuration.md) where it matters.
#[derive(Debug, Clone, Copy)]
struct Daemon {
    version: &'static str,
    /// Its log level is debug.
    debug: bool,
    input: Input,
    /// What the shim's operator wants `start` to print; empty: there is no configuration.
    configured: &'static str,
    reply: Reply,
    /// The service it calls after such a reply.
    service: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Nothing,
    /// An `Any` of runtime options.
    Options,
    /// `BootstrapParams`, maybe with a directory for sockets.
    Params {
        socket_dir: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Address,
    Json,
    /// `BootstrapResult`.
    Result,
}

const fn daemon(version: &'static str, input: Input, reply: Reply) -> Daemon {
    // Given a plain address, every daemon takes the shim for one of before 2.0.
    let service = if matches!(reply, Reply::Address) { TASK_V2 } else { TASK_V3 };
    Daemon { version, debug: false, input, configured: "", reply, service }
}

const PARAMS: Input = Input::Params { socket_dir: false };

/// Those of before 2.3 cannot be told from each other, so all get what 1.6 understands, unless the
/// operator says that none of them is older than 2.0.
const DAEMONS: [Daemon; 10] = [
    daemon("1.6", Input::Nothing, Reply::Address),
    Daemon { debug: true, ..daemon("1.6", Input::Options, Reply::Address) },
    daemon("1.7", Input::Options, Reply::Address),
    Daemon { debug: true, ..daemon("1.7", Input::Nothing, Reply::Address) },
    daemon("2.0", Input::Options, Reply::Address),
    Daemon { configured: "json", ..daemon("2.0", Input::Options, Reply::Json) },
    daemon("2.3", PARAMS, Reply::Result),
    Daemon { debug: true, ..daemon("2.3", Input::Params { socket_dir: true }, Reply::Result) },
    Daemon { configured: "json", ..daemon("2.3", PARAMS, Reply::Result) },
    Daemon { configured: "address", ..daemon("2.3", PARAMS, Reply::Address) },
];

/// containerd #13910.
#[test]
fn every_daemon_is_answered_in_its_own_way() -> Result<()> {
    let lab = Lab::new()?;
    for daemon in DAEMONS {
        // The Go shim is that of 1.6: it has no configuration and one service.
        let later = daemon.service == TASK_V3 || !daemon.configured.is_empty();
        if !(lab.shim().is_go() && later) {
            daemon.runs_a_pod(&lab).with_context(|| format!("{daemon:?}"))?;
        }
    }
    lab.finish()
}

/// A pod's other containers share its shim, also when they come with another dialect: containerd
/// was upgraded meanwhile.
#[test]
fn a_pod_outlives_an_upgrade_of_its_daemon() -> Result<()> {
    if ShimUnderTest::skips_go("that of 1.6 knows no other daemon")? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let pod = lab.pod("pod")?;
    let spec = Spec::new([payload::PATH, "exit", "3"]).pod(&pod);
    let socket = lab.socket(&pod);
    for daemon in DAEMONS.iter().filter(|daemon| !daemon.has_socket_dir()) {
        let bundle = lab.bundle("c", &spec)?;
        let start = daemon.start(&lab, &bundle)?;
        assert_eq!(start.assert_ok().stdout, daemon.reply_with(&socket)?, "{daemon:?}");
        let shim = ShimProcess::connect(&socket, lab.options()?)?.speaking(daemon.service);
        lives(&lab, &shim, &bundle)?;
    }
    ShimProcess::connect(&socket, lab.options()?)?.shutdown()?;
    lab.finish()
}

/// The daemon is not the one that the command line speaks of: an error, and no shim.
#[test]
fn parameters_of_another_task_are_refused() -> Result<()> {
    if ShimUnderTest::skips_go("that of 1.6 knows no parameters")? {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (bundle, other) =
        (lab.bundle("c", &Spec::new([""; 0]))?, lab.bundle("o", &Spec::new([""; 0]))?);
    let before = files(&bundle)?;
    let stdin = daemon("2.3", PARAMS, Reply::Result).input(&lab, &other)?;
    let out = lab.invoke(&bundle, &[], "start").stdin(stdin).output()?;
    out.assert_code(1).assert_stdout("").assert_error("do not match command-line arguments");
    assert!(!lab.socket(bundle.id()).exists());
    assert_eq!(files(&bundle)?, before);
    lab.finish()
}

/// `sched_core = true` in the daemon's configuration: the shim asks the kernel for a core scheduling
/// group of its own, and does not start when it gets none. Which, is up to kernel and processor. That
/// there is a group then is the kernel's word: to ask for it takes unsafe code, which no test has.
#[test]
fn core_scheduling_is_had_or_there_is_no_shim() -> Result<()> {
    let lab = Lab::new()?;
    let bundle = lab.bundle("c", &Spec::new([payload::PATH, "exit", "3"]))?;
    // Only siblings on a core are a reason for it (kernel/sched/core_sched.c).
    let siblings = fs::read_to_string("/sys/devices/system/cpu/smt/active").unwrap_or_default();
    for value in ["", "1"] {
        let out = lab.invoke(&bundle, &[], "start").env("SCHED_CORE", value).output()?;
        let refused = out.code != 0 && value == "1";
        if refused {
            out.assert_stdout("").assert_error("enable sched core support: ");
            assert!(!lab.socket(bundle.id()).exists());
            assert!(Proc::shim(lab.namespace(), bundle.id()).is_err());
        } else {
            assert!(value.is_empty() || siblings.trim() == "1", "{out}");
            let shim = lab.attach(&out)?;
            lives(&lab, &shim, &bundle)?;
            shim.shutdown()?;
            wait_gone(shim.proc())?;
        }
    }
    lab.finish()
}

impl Daemon {
    /// Two containers of a pod, as this daemon runs them.
    fn runs_a_pod(&self, lab: &Lab) -> Result<()> {
        let pod = lab.pod("pod")?;
        let spec = Spec::new([payload::PATH, "exit", "3"]).pod(&pod);
        let (first, second) = (lab.bundle("first", &spec)?, lab.bundle("second", &spec)?);
        let socket = self.socket(lab, &pod);
        let before = files(&first)?;
        let start = self.start(lab, &first)?;
        assert_eq!(start.assert_ok().stdout, self.reply_with(&socket)?, "{start}");
        assert_eq!(start.stderr, b"");
        let mut written: BTreeSet<String> = &files(&first)? - &before;
        assert_eq!(written, self.own_files());
        if self.reads_address_file() {
            assert_eq!(first.text("address"), format!("unix://{}", socket.display()));
        }
        let shim = ShimProcess::connect(&socket, lab.options()?)?.speaking(self.service);
        let is_debug = shim.proc().args()?.iter().any(|arg| arg == "-debug");
        assert_eq!(is_debug, self.debug);
        lives(lab, &shim, &first)?;
        written.extend(["init.pid", "log.json", "options.json", "runtime"].map(str::to_owned));
        assert_eq!(&files(&first)? - &before, written);
        self.adds_to_the_pod(lab, &second, &start)?;
        lives(lab, &shim.reconnect()?.speaking(self.service), &second)?;
        shim.shutdown()?;
        wait_gone(shim.proc())?;
        assert!(!socket.exists());
        Ok(())
    }

    /// A daemon that calls the newer service copies `bootstrap.json` for the other containers of a
    /// pod, and calls no `start` for them (containerd #11708).
    fn adds_to_the_pod(&self, lab: &Lab, bundle: &Bundle, first: &Output) -> Result<()> {
        if self.service == TASK_V3 {
            return Ok(());
        }
        let again = self.start(lab, bundle)?;
        assert_eq!(
            (again.assert_ok().stdout.as_slice(), again.stderr.as_slice()),
            (first.stdout.as_slice(), &b""[..])
        );
        assert_eq!(!bundle.text("address").is_empty(), self.reads_address_file());
        Ok(())
    }

    fn start(&self, lab: &Lab, bundle: &Bundle) -> Result<Output> {
        let reply = match self.configured {
            "" => String::new(),
            reply => format!("[bootstrap]\nreply = \"{reply}\"\n"),
        };
        lab.configure(&reply)?;
        // With a debug level the daemon says so in its parameters and as a flag.
        let flags: &[&str] = if self.debug { &["-debug"] } else { &[] };
        let mut start = lab.invoke(bundle, flags, "start").stdin(self.input(lab, bundle)?);
        if self.version != "1.6" {
            // The same number since 1.7: it says nothing about what the daemon speaks.
            start = start.env("MAX_SHIM_VERSION", "2").env("NAMESPACE", lab.namespace());
            start = start.env("GRPC_ADDRESS", lab.dir().join("c.sock"));
        }
        start.output()
    }

    fn input(&self, lab: &Lab, bundle: &Bundle) -> Result<Vec<u8>> {
        Ok(match self.input {
            Input::Nothing => Vec::new(),
            Input::Options => lab.options()?.write_to_bytes()?,
            Input::Params { .. } => self.params(lab, bundle)?.write_to_bytes()?,
        })
    }

    fn params(&self, lab: &Lab, bundle: &Bundle) -> Result<BootstrapParams> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let options = MessageField::some(lab.options()?);
        Ok(BootstrapParams {
            instance_id: bundle.id().to_owned(),
            namespace: lab.namespace().to_owned(),
            log_level: EnumOrUnknown::from_i32(if self.debug { -4 } else { 0 }),
            containerd_version: "v2.3.0".to_owned(),
            containerd_ttrpc_address: text(lab.events().path()),
            containerd_grpc_address: text(&lab.dir().join("c.sock")),
            containerd_binary: "/usr/bin/containerd".to_owned(),
            extensions: vec![Extension { value: options, ..Extension::default() }],
            socket_dir: self.has_socket_dir().then(|| text(&socket_dir(lab))),
            ..BootstrapParams::default()
        })
    }

    fn has_socket_dir(&self) -> bool {
        self.input == Input::Params { socket_dir: true }
    }

    /// 1.x finds a shim again by the file `address`; later daemons keep `bootstrap.json`
    /// themselves, and make it of `address` when it is missing.
    fn reads_address_file(&self) -> bool {
        !matches!(self.input, Input::Params { .. })
    }

    /// What `start` leaves in a bundle.
    fn own_files(&self) -> BTreeSet<String> {
        let link = self.has_socket_dir().then(|| "s".to_owned());
        let address = self.reads_address_file().then(|| "address".to_owned());
        link.into_iter().chain(address).collect()
    }

    fn socket(&self, lab: &Lab, pod: &str) -> PathBuf {
        let usual = lab.socket(pod);
        match usual.file_name() {
            Some(name) if self.has_socket_dir() => socket_dir(lab).join(name),
            _ => usual,
        }
    }

    fn reply_with(&self, socket: &Path) -> Result<Vec<u8>> {
        let address = format!("unix://{}", socket.display());
        Ok(match self.reply {
            Reply::Address => address.into_bytes(),
            Reply::Json => {
                format!(r#"{{"version":3,"address":"{address}","protocol":"ttrpc"}}"#).into_bytes()
            }
            // Fields 1, 2 and 3. The length is one byte: no path of a socket is longer than 107.
            Reply::Result => {
                let length = u8::try_from(address.len())?;
                [b"\x08\x03\x12", &[length][..], address.as_bytes(), b"\x1a\x05ttrpc"].concat()
            }
        })
    }
}

fn socket_dir(lab: &Lab) -> PathBuf {
    lab.dir().join("sockets")
}

/// Create, Start, Wait, Delete, and their events.
fn lives(lab: &Lab, shim: &ShimProcess, bundle: &Bundle) -> Result<()> {
    shim.create(bundle, &Stdio::null())?;
    shim.start(bundle.id(), "")?;
    assert_eq!(shim.wait(bundle.id(), "")?.status, 3);
    assert_eq!(shim.delete(bundle.id(), "")?.status, 3);
    let story = lab.events().log().story_until(bundle.id(), "delete")?;
    assert_eq!(story, ["create", "start", "exit 3", "delete 3"]);
    Ok(())
}

/// The names of the files in a bundle.
fn files(bundle: &Bundle) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(bundle.dir())?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
