// SPDX-License-Identifier: Apache-2.0
//! Messages that say something impossible, or nothing that can be read.

use anyhow::Result;
use protobuf::MessageField;
use protobuf::well_known_types::any::Any;
use wedge_integration::proc::Proc;
use wedge_integration::protos::api::ExecProcessRequest;
use wedge_integration::rpc::Code;
use wedge_integration::{Rig, ShimProcess, ShimUnderTest, Stdio, TASK_V2, TASK_V3, helper};

use crate::METHODS;

#[test]
fn a_signal_is_one_of_linux() -> Result<()> {
    let rig = Rig::runc()?;
    rig.run()?;
    let exec = rig.exec("e1", ["sleep", "1000"])?;
    // 0 asks whether there is somebody to signal.
    rig.shim.kill(rig.id(), "", 0, false)?;
    rig.shim.kill(rig.id(), "e1", 0, false)?;
    assert!(Proc(exec).is_alive());
    rig.end()
}

#[test]
fn a_signal_that_does_not_exist_is_refused() -> Result<()> {
    if ShimUnderTest::skips_go("it hands any number on")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.run()?;
    rig.exec("e1", ["sleep", "1000"])?;
    for (signal, exec_id) in [(65, ""), (99, ""), (65, "e1"), (99, "e1"), (u32::MAX, "e1")] {
        let text = format!("invalid signal {signal}: invalid argument");
        let kill = |shim: &ShimProcess| shim.kill(rig.id(), exec_id, signal, false);
        rig.refuses(Code::INVALID_ARGUMENT, &text, kill)?;
    }
    rig.shim.kill(rig.id(), "e1", 64, false)?;
    assert_eq!(rig.shim.wait(rig.id(), "e1")?.status, 128 + 64);
    assert_eq!(rig.script().commands()?, ["create", "start", "exec"]);
    rig.end()
}

#[test]
fn an_exec_needs_a_process() -> Result<()> {
    if ShimUnderTest::skips_go("it panics without a spec, and dies of it")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    rig.run()?;
    let mut request = ExecProcessRequest {
        id: rig.id().to_owned(),
        exec_id: "e1".to_owned(),
        ..ExecProcessRequest::default()
    };
    let absent = "exec request without a spec: invalid argument";
    rig.refuses(Code::INVALID_ARGUMENT, absent, |shim| shim.exec_with(&request))?;
    for json in ["", "no json", "[]", "null", "{\"args\": ["] {
        let spec = Any { value: json.as_bytes().to_vec(), ..Any::default() };
        request.spec = MessageField::some(spec);
        let before = rig.footprint()?;
        let error = rig.shim.exec_with(&request).unwrap_err();
        assert_eq!(error.code(), Some(Code::INVALID_ARGUMENT), "{json}: {error}");
        assert!(error.to_string().contains("failed to parse the process spec"), "{error}");
        rig.unchanged_since(&before)?;
    }
    let unknown = "process does not exist e1: not found";
    rig.refuses(Code::NOT_FOUND, unknown, |shim| shim.state(rig.id(), "e1"))?;
    assert_eq!(rig.story_until("start")?, ["create", "start"]);
    rig.end()
}

#[test]
fn options_of_another_type_are_refused() -> Result<()> {
    if ShimUnderTest::skips_go("a type assertion panics, and the shim dies of it")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let mut request = rig.shim.create_request(&rig.bundle, &Stdio::null());
    for type_url in ["containerd.runc.v1.CheckpointOptions", "google.protobuf.Empty", "x"] {
        request.options = MessageField::some(options(type_url, Vec::new()));
        let text = format!("unsupported runtime options type {type_url:?}: invalid argument");
        rig.refuses(Code::INVALID_ARGUMENT, &text, |shim| shim.create_with(&request))?;
    }
    rig.end()
}

/// What daemons send for a runtime that is not called `io.containerd.runc.v2` (containerd #9671).
#[test]
fn options_may_be_toml() -> Result<()> {
    if ShimUnderTest::skips_go("the version of Debian 12 knows only its own options")? {
        return Ok(());
    }
    let rig = Rig::fake()?;
    let mut request = rig.shim.create_request(&rig.bundle, &Stdio::null());
    for (toml, problem) in [
        ("BinaryName = ", "failed to parse runtime options"),
        ("SystemdCgroup = 'yes'", "runtime option SystemdCgroup must be a boolean"),
        ("IoUid = -1", "runtime option IoUid must be"),
    ] {
        request.options = MessageField::some(options("runtimeoptions.v1.Options", toml_body(toml)));
        let before = rig.footprint()?;
        let error = rig.shim.create_with(&request).unwrap_err();
        assert_eq!(error.code(), Some(Code::INVALID_ARGUMENT), "{toml}: {error}");
        assert!(error.to_string().contains(problem), "{error}");
        rig.unchanged_since(&before)?;
    }
    let (binary, root) = (helper("wedge-fake-runtime")?, rig.lab.dir().join("runtime"));
    let toml = format!("BinaryName = {binary:?}\nroot = {root:?}\nSomething = 1\n");
    request.options = MessageField::some(options("runtimeoptions.v1.Options", toml_body(&toml)));
    rig.shim.create_with(&request)?;
    assert_eq!(rig.script().commands()?, ["create"]);
    rig.retire()
}

fn options(type_url: &str, value: Vec<u8>) -> Any {
    Any { type_url: type_url.to_owned(), value, ..Any::default() }
}

/// `runtimeoptions.v1.Options` with field 3, `config_body`.
fn toml_body(toml: &str) -> Vec<u8> {
    let mut bytes = vec![3 << 3 | 2];
    let mut len = toml.len();
    while len > 0x7f {
        bytes.push(len.to_le_bytes()[0] | 0x80);
        len >>= 7;
    }
    bytes.push(len.to_le_bytes()[0]);
    [&bytes, toml.as_bytes()].concat()
}

#[test]
fn a_message_may_be_too_long() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    let before = rig.footprint()?;
    let error = rig.shim.raw(TASK_V2, "State", &vec![b'x'; 5 << 20]).unwrap_err();
    assert_eq!(error.code(), Some(Code::RESOURCE_EXHAUSTED), "{error}");
    assert!(error.to_string().contains("exceed maximum message size of 4194304"), "{error}");
    // The same connection goes on.
    assert_eq!(rig.shim.state(rig.id(), "")?.id, rig.id());
    rig.unchanged_since(&before)?;
    rig.end()
}

#[test]
fn a_message_may_be_cut_off() -> Result<()> {
    let rig = Rig::fake()?;
    rig.run()?;
    let before = rig.footprint()?;
    for (method, service) in METHODS.iter().flat_map(|m| [(m, TASK_V2), (m, TASK_V3)]) {
        if rig.lab.shim().is_go() && service == TASK_V3 {
            continue;
        }
        // A field that promises 127 bytes and has one.
        let error = rig.shim.raw(service, method, &[0x0a, 0x7f, b'x']).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("ttrpc: error unmarshalling payload"), "{method}: {text}");
        let go = rig.lab.shim().is_go();
        let code = if go { Code::INTERNAL } else { Code::INVALID_ARGUMENT };
        assert_eq!(error.code(), Some(code), "{method}: {text}");
    }
    rig.unchanged_since(&before)?;
    rig.end()
}

#[test]
fn an_unknown_service_or_method_is_unimplemented() -> Result<()> {
    let rig = Rig::fake()?;
    rig.refuses(Code::UNIMPLEMENTED, "service containerd.task.v4.Task", |shim| {
        shim.raw("containerd.task.v4.Task", "State", &[])
    })?;
    rig.refuses(Code::UNIMPLEMENTED, "method Explode", |shim| shim.raw(TASK_V2, "Explode", &[]))?;
    rig.end()
}
