//! Asks a question again and again on a thread of its own, so that a slow or dead answerer never stops the screen.
//!
//! Holds always: one question at a time, the next one an interval after the last answer or at once when asked for;
//! nothing piles up, since at most one answer and one wish wait; the thread ends after its question once the
//! [`Poller`] is dropped.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::thread;
use std::time::Duration;

/// The thread that asks.
#[derive(Debug)]
pub struct Poller<T, E> {
    wishes: SyncSender<()>,
    answers: Receiver<Result<T, E>>,
}

/// The thread has ended by itself, which it does only in a panic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it ended by itself")]
pub struct Ended;

impl<T: Send + 'static, E: Send + 'static> Poller<T, E> {
    /// Starts asking, the first time at once.
    pub fn start(
        interval: Duration,
        mut ask: impl FnMut() -> Result<T, E> + Send + 'static,
    ) -> io::Result<Self> {
        let (wishes, wished) = mpsc::sync_channel(1);
        let (answer, answers) = mpsc::sync_channel(1);
        thread::Builder::new().name("ask".to_owned()).spawn(move || {
            while answer.send(ask()).is_ok() {
                if wished.recv_timeout(interval) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        })?;
        Ok(Self { wishes, answers })
    }

    /// Asks without waiting for the interval's end, or once more right after the question that is under way.
    pub fn ask_now(&self) {
        // Full: the same wish waits already. Closed: `take` tells.
        let _ = self.wishes.try_send(());
    }

    /// The next answer, if there is one. Never waits.
    pub fn take(&self) -> Result<Option<Result<T, E>>, Ended> {
        match self.answers.try_recv() {
            Ok(answer) => Ok(Some(answer)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Ended),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(3600);

    fn next<T: Send + 'static>(poller: &Poller<T, ()>) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Some(answer) = poller.take().unwrap() {
                return answer.unwrap();
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("no answer");
    }

    #[test]
    fn it_asks_at_once_and_again_when_wished_without_waiting_for_the_interval() {
        let mut count = 0;
        let poller = Poller::start(LONG, move || {
            count += 1;
            Ok(count)
        })
        .unwrap();
        assert_eq!(next(&poller), 1);
        poller.ask_now();
        assert_eq!(next(&poller), 2);
    }

    #[test]
    fn a_question_that_hangs_is_the_only_one_and_stops_nobody() {
        let (asked, asks) = channel();
        let (release, held) = channel::<()>();
        let poller = Poller::start(Duration::ZERO, move || {
            let _ = asked.send(());
            held.recv().map_err(|_| ())
        })
        .unwrap();
        asks.recv().unwrap();
        for _ in 0..1000 {
            poller.ask_now();
            assert_eq!(poller.take(), Ok(None));
        }
        assert!(asks.try_recv().is_err(), "a second question while the first is under way");
        release.send(()).unwrap();
        next(&poller);
    }

    #[test]
    fn the_thread_ends_with_its_poller() {
        let (alive, ended) = channel::<()>();
        let poller = Poller::start(Duration::from_millis(1), move || {
            let _keep = &alive;
            Ok::<_, ()>(())
        })
        .unwrap();
        next(&poller);
        drop(poller);
        assert!(
            ended.recv_timeout(Duration::from_secs(20)).is_err_and(|e| e == RecvTimeoutError::Disconnected)
        );
    }
}
