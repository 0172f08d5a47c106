//! For tests: two ends of a stream in memory, so that protocols are tested without a network.

use futures::channel::mpsc;
use futures::io::{AsyncRead, AsyncWrite};
use futures::stream::{IntoAsyncRead, StreamExt, TryStreamExt};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

type Source = IntoAsyncRead<Pin<Box<dyn futures::Stream<Item = io::Result<Vec<u8>>> + Send>>>;

/// One end. Dropping it is the end of the other's reading.
pub(crate) struct PipeEnd {
    incoming: Source,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    record: Option<(bool, Record)>,
}

/// What passed through a pipe, in order: whether the near end said it, and what.
pub(crate) type Record = Arc<Mutex<Vec<(bool, Vec<u8>)>>>;

/// A pipe that notes what passes.
pub(crate) fn recorded_pipe() -> (PipeEnd, PipeEnd, Record) {
    let record = Record::default();
    let (mut near, mut far) = pipe();
    near.record = Some((true, record.clone()));
    far.record = Some((false, record.clone()));
    (near, far, record)
}

pub(crate) fn pipe() -> (PipeEnd, PipeEnd) {
    let (to_far, from_near) = mpsc::unbounded();
    let (to_near, from_far) = mpsc::unbounded();
    let end = |outgoing, incoming: mpsc::UnboundedReceiver<Vec<u8>>| {
        let stream: Pin<Box<dyn futures::Stream<Item = _> + Send>> = Box::pin(incoming.map(Ok));
        PipeEnd { incoming: stream.into_async_read(), outgoing, record: None }
    };
    (end(to_far, from_far), end(to_near, from_near))
}

impl AsyncRead for PipeEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.incoming).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PipeEnd {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some((is_near, record)) = &self.record {
            record.lock().unwrap().push((*is_near, bytes.to_vec()));
        }
        let sent = self.outgoing.unbounded_send(bytes.to_vec());
        Poll::Ready(sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.close_channel();
        Poll::Ready(Ok(()))
    }
}
