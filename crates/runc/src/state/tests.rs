// SPDX-License-Identifier: Apache-2.0
use super::*;
use proptest::prelude::*;

const OLD: &str = r#"{"id":"x","init_process_pid":7,"init_process_start":99,
    "created":"2026-11-27T20:30:18.970338823Z","config":{"no_pivot_root":false,"rootfs":"/r",
    "namespaces":[{"type":"NEWPID","path":""},{"type":"NEWNS","path":""}],"seccomp":null,
    "cgroups":{"path":"/x","scope_prefix":"","pids_limit":0,"Systemd":false,"Rootless":false},
    "Hooks":{"createContainer":null,"createRuntime":null,"poststart":null,"poststop":null,
    "prestart":null,"startContainer":null}},"rootless":false,
    "cgroup_paths":{"":"/u/x","cpu":"/c/x"},"namespace_paths":{"NEWPID":"/proc/7/ns/pid"},
    "external_descriptors":["/dev/null","",""],"intel_rdt_path":""}"#;

const NEW: &str = r#"{"id":"x","init_process_pid":7,"init_process_start":99,"created":"now",
    "config":{"cgroups":{},"new":{"a":[1]}},"cgroup_paths":{"":"/sys/fs/cgroup/x"}}"#;

fn state(text: &str) -> serde_json::Result<State> {
    serde_json::from_str(text)
}

#[test]
fn what_1_1_writes_and_what_1_5_leaves_out_load() {
    let old = state(OLD).unwrap();
    assert_eq!((old.init_process_pid, old.init_process_start), (7, 99));
    assert!(old.config.private_pids());
    let hooks = old.config.hooks.unwrap();
    assert!(hooks.poststart.is_none() && hooks.poststop.is_none());
    assert_eq!(old.config.cgroups.unwrap().systemd, Some(false));
    let new = state(NEW).unwrap();
    assert!(!new.config.private_pids() && new.config.hooks.is_none());
    assert_eq!(new.cgroup_paths.unwrap().len(), 1);
}

#[test]
fn what_a_later_runc_may_have_to_clean_up_is_refused() {
    let of_another_shape = [
        NEW.replace("\"id\":", "\"new_thing\":{},\"id\":"),
        NEW.replace("\"cgroups\":{}", "\"cgroups\":{},\"Hooks\":{\"postmortem\":[]}"),
        NEW.replace("\"init_process_start\":99", "\"init_process_start\":-1"),
        NEW.replace("\"init_process_pid\":7,", ""),
        r#"{"pid":7,"status":"running","bundle":"/b"}"#.to_owned(),
        "[]".to_owned(),
        String::new(),
    ];
    for text in of_another_shape {
        assert!(state(&text).is_err(), "{text}");
    }
}

#[test]
fn a_pid_namespace_is_private_when_it_was_made_for_the_container() {
    for (namespaces, private) in [
        (r#"[{"type":"NEWNS"},{"type":"NEWPID"}]"#, true),
        (r#"[{"type":"NEWPID","path":null}]"#, true),
        (r#"[{"type":"NEWPID","path":"/proc/1/ns/pid"}]"#, false),
        (r#"[{"type":"NEWNS","path":""}]"#, false),
        ("[]", false),
        ("null", false),
    ] {
        let config = format!("{{\"namespaces\":{namespaces}}}");
        let config: Config = serde_json::from_str(&config).unwrap();
        assert_eq!(config.private_pids(), private, "{namespaces}");
    }
}

#[test]
fn the_start_time_is_found_behind_any_name() {
    let fields: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
    for name in ["sh", "a) R (b", ") 1 2 3 (", ""] {
        let stat = format!("7 ({name}) S {}\n", fields.join(" "));
        assert_eq!(start_time_in(&stat), Some(22), "{name}");
    }
    assert_eq!(start_time_in("7 (sh) S 1"), None);
    assert!(start_time(std::process::id()).is_ok_and(|time| time > 0));
    assert!(start_time(u32::MAX).is_err());
}

proptest! {
    #[test]
    fn any_text_is_survived(text in ".{0,200}", cut in 0..OLD.len()) {
        fuzzing::state(text.as_bytes());
        fuzzing::start_time(&text);
        prop_assert_eq!(fuzzing::state(&OLD.as_bytes()[..cut]), None);
    }
}
