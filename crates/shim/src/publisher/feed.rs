// SPDX-License-Identifier: Apache-2.0
//! Where events come from, until no more are wanted.

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use wedge_task::Stamped;

/// The events of the tasks. It can be closed although tasks go on: what has happened by then still
/// comes, and nothing after it.
#[derive(Debug)]
pub(crate) struct Feed {
    events: UnboundedReceiver<Stamped>,
    /// Until it has come.
    stop: Option<oneshot::Receiver<()>>,
}

impl Feed {
    /// The events, and what closes them: by sending, or by being dropped.
    pub(crate) fn new(events: UnboundedReceiver<Stamped>) -> (Feed, oneshot::Sender<()>) {
        let (close, stop) = oneshot::channel();
        (Feed { events, stop: Some(stop) }, close)
    }

    /// The next one, or `None` when there will be none. None is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Stamped> {
        if let Some(stop) = &mut self.stop {
            tokio::select! {
                event = self.events.recv() => return event,
                _ = stop => {}
            }
            self.stop = None;
            self.events.close();
        }
        self.events.recv().await
    }
}

#[cfg(test)]
mod tests {
    use wedge_task::{Event, EventSink};

    use super::*;

    #[tokio::test]
    async fn what_happened_before_the_close_still_comes_and_nothing_later() {
        let (sink, events) = EventSink::channel();
        let (mut feed, close) = Feed::new(events);
        for number in 0..3 {
            sink.send(Event::Paused { container_id: number.to_string() });
        }
        close.send(()).unwrap();
        let mut ids = Vec::new();
        // The sink lives on, as it does in a task whose container runs.
        while let Some(stamped) = feed.next().await {
            if let Event::Paused { container_id } = *stamped.event {
                ids.push(container_id);
            }
            if feed.stop.is_none() {
                sink.send(Event::Paused { container_id: "late".to_owned() });
            }
        }
        assert_eq!(ids, ["0", "1", "2"]);
    }
}
