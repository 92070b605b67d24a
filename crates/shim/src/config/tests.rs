// SPDX-License-Identifier: Apache-2.0
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use wedge_task::{CommandPath, ExecPath};

use super::*;

fn parsed(text: &str) -> Result<Config, String> {
    let merged = Config::merge([(PathBuf::from("/c"), text.to_owned())]);
    merged.map_err(|err| err.chain())
}

/// A configuration of root's, and the place for its drop-ins.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new(text: &str) -> Files {
        let files = Files { dir: tempfile::tempdir().unwrap() };
        files.write("config.toml", text);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self.mode(name, 0o644);
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn load(&self) -> Result<Config, String> {
        let path = self.path("config.toml");
        let main = file::read_if_there(&path).map_err(|err| err.chain())?;
        let config = Config::of(main.map(|text| (path.clone(), text)), &path);
        config.map_err(|err| err.chain())
    }

    #[track_caller]
    fn refused(&self, name: &str, why: &str) {
        let text = format!("{}: the configuration is refused: it {why}", self.path(name).display());
        assert_eq!(self.load().unwrap_err(), text);
    }
}

fn everything() -> Config {
    let mut config = Config::default();
    config.task.exec = ExecPath::Native;
    config.task.commands = CommandPath::Runtime;
    config.reply = Reply::Json;
    let policy = &mut config.task.loggers.policy;
    policy.allow_unsafe_paths = true;
    policy.allowed_owners = vec![65534, 1000];
    policy.allowed_directories = vec!["/opt/a \"b\"\n\u{7f}ä".into(), "/srv".into()];
    policy.programs = vec!["/usr/bin/logger".into()];
    config.task.runtime_command = Duration::from_secs(3600);
    config.task.output_drain = Duration::from_millis(1500);
    config.task.loggers.ready = Duration::from_secs(90);
    config.event_drain = Duration::from_millis(1);
    config
}

#[test]
fn every_key_is_understood() {
    let text = r#"
        exec = "native"
        commands = "runtime"
        bootstrap = {reply = "json"}
        timeouts.runtime_command = "1h"
        timeouts.output_drain = "1500ms"
        timeouts.logger_ready = "90s"
        timeouts.event_drain = "1ms"
        [logger]
        allow_unsafe_paths = true
        allowed_owners = [65534, 0x3e8]
        allowed_directories = ["/opt/a \"b\"\n\u007fä", '/srv']
        programs = ["/usr/bin/logger"]
    "#;
    assert_eq!(parsed(text).unwrap(), everything());
    assert_eq!(parsed("").unwrap(), Config::default());
    assert_eq!(parsed("[logger]\n[timeouts]\n").unwrap(), Config::default());
}

#[test]
fn what_start_hands_over_is_what_the_server_gets() {
    let all = everything();
    assert_eq!(all.changes().len(), parse::lines(&all).len());
    for config in [all, Config::default()] {
        let settings = Some(config.changes().join("\n"));
        let flags = Flags { settings, ..Flags::default() };
        assert_eq!(Config::of_server(&flags).unwrap(), config);
    }
    assert_eq!(Config::default().changes(), Vec::<String>::new());
}

#[track_caller]
fn assert_wrong(table: &[(&str, &str, &str)]) {
    for (text, place, problem) in table {
        assert_eq!(parsed(text).unwrap_err(), format!("/c:{place}: {problem}"), "{text}");
    }
}

#[test]
fn an_error_names_the_file_the_line_and_the_key() {
    assert_wrong(&[
        ("\n\n[logger]\nallow = true", "4: logger.allow", "unknown key"),
        ("exec = 'native'\nexce = 1", "2: exce", "unknown key"),
        ("[logging]\nx = 1", "1: logging", "unknown key"),
        ("[logger.x]", "1: logger.x", "unknown key"),
        ("'logger.allowed_owners' = []", "1: \"logger.allowed_owners\"", "unknown key"),
        ("timeouts = 3", "1: timeouts", "expected a table"),
        ("[[logger]]", "1: logger", "expected a table"),
        (
            "\nlogger.allow_unsafe_paths = 'yes'",
            "2: logger.allow_unsafe_paths",
            "expected a boolean",
        ),
    ]);
}

#[test]
fn a_choice_is_one_of_its_names() {
    let exec = "expected one of \"auto\", \"native\", \"runtime\"";
    let reply = "expected one of \"auto\", \"address\", \"json\"";
    assert_wrong(&[
        ("exec = 'fast'", "1: exec", exec),
        ("exec = true", "1: exec", exec),
        ("commands = 'native'", "1: commands", "expected one of \"auto\", \"runtime\""),
        ("bootstrap.reply = 'JSON'", "1: bootstrap.reply", reply),
    ]);
}

#[test]
fn each_item_of_a_list_is_checked() {
    let (owners, users) = ("logger.allowed_owners", "expected an array of user ids");
    let dirs = "logger.allowed_directories";
    let paths = "expected an array of absolute paths without \"..\"";
    for (value, line) in [("3", 1), ("['0']", 1), ("[\n1,\n-1]", 3), ("[4294967295]", 1)] {
        assert_wrong(&[(&format!("{owners} = {value}"), &format!("{line}: {owners}"), users)]);
    }
    for (value, line) in [("'/a'", 1), ("['/a',\n'b']", 2), ("['/a/../b']", 1), ("[1]", 1)] {
        assert_wrong(&[(&format!("{dirs} = {value}"), &format!("{line}: {dirs}"), paths)]);
    }
}

#[test]
fn a_duration_has_a_unit_and_bounds() {
    let problem = "expected a duration from \"1ms\" to \"24h\", such as \"10s\"";
    for bad in ["10", "'10'", "''", "'s'", "'0s'", "'25h'", "'1.5s'", "'-1s'", "'1m30s'", "'10 s'"]
    {
        let text = format!("timeouts.event_drain = {bad}");
        assert_wrong(&[(&text, "1: timeouts.event_drain", problem)]);
    }
    let longest = parsed("timeouts.event_drain = '24h'").unwrap();
    assert_eq!(longest.event_drain, Duration::from_secs(24 * 3600));
}

#[test]
fn what_is_no_toml_is_an_error_with_its_line() {
    for (text, line) in [("exec = 'a", 1), ("\nexec", 2), ("exec='auto'\n\nexec='auto'\n", 3)] {
        let err = parsed(text).unwrap_err();
        assert!(err.starts_with(&format!("/c:{line}: ")), "{err}");
        assert!(!err.contains('\n'), "{err:?}");
    }
}

#[test]
fn drop_ins_win_key_by_key_in_the_order_of_their_names() {
    let files = Files::new("exec = 'native'\n[timeouts]\noutput_drain = '1s'\nlogger_ready = '1s'");
    files.write("conf.d/20-b.toml", "timeouts.output_drain = '3s'");
    files.write("conf.d/10-a.toml", "timeouts = {output_drain = '2s', event_drain = '2s'}");
    for ignored in ["30-c.toml~", ".31-d.toml", "32-e.conf"] {
        files.write(&format!("conf.d/{ignored}"), "nonsense");
    }
    let mut expected = Config::default();
    expected.task.exec = ExecPath::Native;
    expected.task.loggers.ready = Duration::from_secs(1);
    expected.event_drain = Duration::from_secs(2);
    expected.task.output_drain = Duration::from_secs(3);
    assert_eq!(files.load().unwrap(), expected);
    files.write("conf.d/15-x.toml", "\n\n[logger]\nallow = 1");
    let path = files.path("conf.d/15-x.toml");
    assert_eq!(
        files.load().unwrap_err(),
        format!("{}:4: logger.allow: unknown key", path.display())
    );
}

#[test]
fn no_files_are_the_defaults() {
    let files = Files::new("");
    fs::remove_file(files.path("config.toml")).unwrap();
    assert_eq!(files.load().unwrap(), Config::default());
    files.write("conf.d/1.toml", "exec = 'runtime'");
    assert_eq!(files.load().unwrap().task.exec, ExecPath::Runtime);
}

#[test]
fn a_file_that_others_could_have_written_is_refused() {
    let files = Files::new("exec = 'native'");
    files.write("conf.d/1.toml", "");
    for name in ["config.toml", "conf.d/1.toml", "conf.d"] {
        let mode = fs::metadata(files.path(name)).unwrap().permissions().mode() & 0o777;
        for more in [0o020, 0o002] {
            files.mode(name, mode | more);
            files.refused(name, "is writable by others than root");
        }
        files.mode(name, mode);
        chown(files.path(name), Some(1000), None).unwrap();
        files.refused(name, "is not owned by root");
        chown(files.path(name), Some(0), None).unwrap();
    }
    assert_eq!(files.load().unwrap().task.exec, ExecPath::Native);
}

#[test]
fn a_link_is_as_good_as_what_it_leads_to() {
    let files = Files::new("exec = 'native'");
    fs::rename(files.path("config.toml"), files.path("real")).unwrap();
    symlink("real", files.path("config.toml")).unwrap();
    assert_eq!(files.load().unwrap().task.exec, ExecPath::Native);
    files.mode("real", 0o666);
    files.refused("config.toml", "is writable by others than root");
}

#[test]
fn what_is_no_configuration_file_is_refused() {
    let files = Files::new("");
    files.write("conf.d/1.toml", "");
    fs::remove_file(files.path("conf.d/1.toml")).unwrap();
    symlink("nowhere", files.path("conf.d/1.toml")).unwrap();
    let path = files.path("conf.d/1.toml");
    let err = files.load().unwrap_err();
    let text = format!("failed to read the configuration {}: No such file", path.display());
    assert!(err.starts_with(&text), "{err}");
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    files.refused("conf.d/1.toml", "is not a regular file");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    files.refused("conf.d/1.toml", "is not a regular file");
    fs::remove_dir(&path).unwrap();
    files.write("conf.d/1.toml", &"#".repeat((64 << 10) + 1));
    files.refused("conf.d/1.toml", "is longer than 64 KiB");
    fs::write(&path, b"\xff").unwrap();
    files.refused("conf.d/1.toml", "is not UTF-8 text");
}

/// With its comments off, the shipped file names every key, at its default.
#[test]
fn the_shipped_file_shows_the_defaults() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dist/config.toml");
    let shipped = fs::read_to_string(shipped).unwrap();
    assert_eq!(parsed(&shipped).unwrap(), Config::default());
    let is_setting = |line: &&str| {
        let (key, value) = line.split_once(" = ").unwrap_or_default();
        !value.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let mut section = String::new();
    let mut settings = Vec::new();
    for line in shipped.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.replace(']', ".");
        }
        let bare = line.strip_prefix("# ").filter(is_setting);
        settings.extend(bare.map(|setting| format!("{section}{setting}")));
    }
    assert_eq!(settings, parse::lines(&Config::default()));
    assert_eq!(parsed(&settings.join("\n")).unwrap(), Config::default());
}
