// SPDX-License-Identifier: Apache-2.0
//! containerd's task events, in the order they came, from `ctr events` or an
//! [`EventServer`](crate::EventServer).

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{Ctr, wait};

/// One event. Fields an event does not have are empty or 0.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Event {
    /// `/tasks/create`, …
    pub topic: String,
    /// The containerd namespace.
    pub namespace: String,
    /// The container.
    pub container_id: String,
    /// The exec; empty for the init process.
    pub exec_id: String,
    /// The process, as a host pid.
    pub pid: u32,
    /// Of exit and delete.
    pub exit_status: u32,
    /// From `ctr`: when the shim sent it, as the time of day; zero from an event server.
    pub time_of_day: Duration,
    /// Of exit and delete: seconds and nanoseconds since 1970 (direct), absent from `ctr`.
    pub exited_at: Option<(i64, i32)>,
    /// The type of `payload`, e.g. `containerd.events.TaskExit`; empty from `ctr`.
    pub type_url: String,
    /// Protobuf from an event server, JSON from `ctr`.
    pub payload: Vec<u8>,
}

impl Event {
    /// The event in a word or three: `create`, `start`, `exec-added e1`, `exec-started e1`,
    /// `exit e1 7`, `exit 137`, `delete 137`, `oom`, `paused`.
    pub fn brief(&self) -> String {
        let name = self.topic.rsplit('/').next().unwrap_or_default();
        let mut words = vec![name.to_owned()];
        words.extend((!self.exec_id.is_empty()).then(|| self.exec_id.clone()));
        let ends = name == "exit" || name == "delete";
        words.extend(ends.then(|| self.exit_status.to_string()));
        words.join(" ")
    }

    /// Whether this is a task event of `container`.
    pub fn is_of(&self, container: &str) -> bool {
        self.container_id == container && self.topic.starts_with("/tasks/")
    }
}

/// Events as they come in. Clones share one list.
#[derive(Debug, Clone, Default)]
pub struct EventLog(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    events: Mutex<Vec<Event>>,
    came: Condvar,
}

impl EventLog {
    pub(crate) fn push(&self, event: Event) {
        self.lock().push(event);
        self.0.came.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are so far.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sleeps until a task event of the container comes whose brief form begins with the words of
    /// `brief`, among all but the first `skip`. Returns as soon as it does: for measuring.
    ///
    /// # Errors
    /// It does not come within [`wait::LIMIT`].
    pub fn block_until(&self, skip: usize, container: &str, brief: &str) -> Result<()> {
        let is_it = |event: &Event| event.is_of(container) && begins(&event.brief(), brief);
        let missing = |all: &mut Vec<Event>| !all.iter().skip(skip).any(is_it);
        let limit = wait::scaled(wait::LIMIT);
        let waited = self.0.came.wait_timeout_while(self.lock(), limit, missing);
        let (_guard, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        ensure!(!waited.timed_out(), "no event {brief:?} of {container}");
        Ok(())
    }

    /// All events so far.
    pub fn all(&self) -> Vec<Event> {
        self.lock().clone()
    }

    /// The task events of a container so far, in order.
    pub fn of(&self, container: &str) -> Vec<Event> {
        self.lock().iter().filter(|event| event.is_of(container)).cloned().collect()
    }

    /// The task events of a container so far, each [`Event::brief`].
    pub fn story(&self, container: &str) -> Vec<String> {
        self.of(container).iter().map(Event::brief).collect()
    }

    /// Waits for an event of the container whose brief form is `last` or begins with the words of
    /// `last`; returns the container's story so far.
    ///
    /// # Errors
    /// It does not come within [`wait::LIMIT`].
    pub fn story_until(&self, container: &str, last: &str) -> Result<Vec<String>> {
        self.wait(container, last)?;
        Ok(self.story(container))
    }

    /// Waits for an event as [`EventLog::story_until`] does and returns it.
    ///
    /// # Errors
    /// It does not come within [`wait::LIMIT`].
    pub fn wait(&self, container: &str, brief: &str) -> Result<Event> {
        wait::until(&format!("the event {brief:?} of {container}"), || {
            let mut all = self.of(container).into_iter();
            let found = all.find(|event| begins(&event.brief(), brief));
            found.with_context(|| format!("{:?}", self.story(container)))
        })
    }
}

/// Whether a text begins with these words.
fn begins(text: &str, words: &str) -> bool {
    text.strip_prefix(words).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// A running `ctr events`.
#[derive(Debug)]
pub struct CtrEvents {
    child: Child,
    log: EventLog,
}

impl CtrEvents {
    /// Subscribes; events from after this call are seen.
    ///
    /// # Errors
    /// `ctr` cannot be run or reports nothing.
    pub(crate) fn follow(ctr: &Ctr) -> Result<CtrEvents> {
        let mut child = Command::new("ctr")
            .args(ctr.global_args())
            .arg("events")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting ctr events")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let events = CtrEvents { child, log: EventLog::default() };
        let log = events.log.clone();
        thread::spawn(move || read_lines(stdout, &log));
        events.wait_subscribed(ctr)?;
        Ok(events)
    }

    /// `ctr events` does not say when it has subscribed: make events until one comes back.
    fn wait_subscribed(&self, ctr: &Ctr) -> Result<()> {
        let mut number = 0;
        wait::until("ctr events reports", || {
            number += 1;
            let name = format!("{}-probe{number}", ctr.namespace());
            let out = ctr.cmd(["namespace", "create", &name]).output()?;
            ensure!(out.code == 0, "{out}");
            ensure!(!self.log.all().is_empty(), "nothing");
            Ok(())
        })
    }
}

impl std::ops::Deref for CtrEvents {
    type Target = EventLog;

    fn deref(&self) -> &EventLog {
        &self.log
    }
}

impl Drop for CtrEvents {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn read_lines(stream: impl Read, log: &EventLog) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        if let Some(event) = parse_line(&line) {
            log.push(event);
        }
    }
}

/// `2026-11-21 23:14:36.04 +0000 UTC NAMESPACE /tasks/exit {"container_id":…}`; zero values are
/// left out of the JSON.
fn parse_line(line: &str) -> Option<Event> {
    let (head, json) = line.split_once(" {")?;
    let (head, topic) = head.rsplit_once(' ')?;
    let (head, namespace) = head.rsplit_once(' ')?;
    let json = format!("{{{json}");
    let value: Value = serde_json::from_str(&json).ok()?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |key: &str| {
        let number = value.get(key).and_then(Value::as_u64).unwrap_or_default();
        u32::try_from(number).unwrap_or(u32::MAX)
    };
    let container_id = text("container_id");
    let exec_id = match text("id") {
        id if !id.is_empty() && id != container_id => id,
        _ => text("exec_id"),
    };
    Some(Event {
        topic: topic.to_owned(),
        namespace: namespace.to_owned(),
        exec_id,
        container_id,
        pid: number("pid"),
        exit_status: number("exit_status"),
        time_of_day: time_of_day(head.split(' ').nth(1)?)?,
        exited_at: None,
        type_url: String::new(),
        payload: json.into_bytes(),
    })
}

/// `23:14:36.04`
fn time_of_day(text: &str) -> Option<Duration> {
    let mut parts = text.split(':');
    let mut whole = || parts.next()?.parse::<u64>().ok();
    let minutes = whole()? * 60 + whole()?;
    let seconds = parts.next()?.parse::<f64>().ok()?;
    Some(Duration::from_secs(minutes * 60) + Duration::try_from_secs_f64(seconds).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ctr_are_read() {
        let exit = parse_line(
            r#"2026-11-21 23:14:36.7 +0000 UTC ns1 /tasks/exit {"container_id":"p1","id":"e1","pid":13636,"exit_status":3,"exited_at":"2026-11-21T23:14:36.7Z"}"#,
        )
        .unwrap();
        assert_eq!((exit.namespace.as_str(), exit.pid), ("ns1", 13636));
        assert_eq!(exit.brief(), "exit e1 3");
        assert_eq!(exit.time_of_day.as_millis(), 83_676_700);
        let init =
            r#"2026-11-21 23:14:36 +0000 UTC ns1 /tasks/exit {"container_id":"p1","id":"p1"}"#;
        assert_eq!(parse_line(init).unwrap().brief(), "exit 0");
        assert_eq!(parse_line("something else"), None);
    }
}
