//! A wire that delays: two TAP devices and a process that carries each frame from one to the other, late.
//!
//! Holds always: frames keep their order; at most [`FRAMES_MAX`] are on the way in each direction, what comes beyond that is
//! lost, as in a router; the process ends with its standard input. Kernels that run here may lack netem, so the delay
//! is ours.
//! Left out: loss and rates, which the kernel does (`net`).

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// The word before the two devices' names that makes the laboratory's program the process of a wire.
pub const ROLE: &str = "--wire";
/// The most frames on their way in one direction.
const FRAMES_MAX: usize = 4096;
/// The longest Ethernet frame here, with room for what the kernel leaves together.
const FRAME_BYTES_MAX: usize = 65_536 + 64;

/// A wire, while its process lives.
#[derive(Debug)]
pub struct Wire {
    process: Child,
    orders: ChildStdin,
}

impl Wire {
    /// Starts the process, from the laboratory's own program, and waits until both devices are there.
    pub fn start(program: &Path, near: &str, far: &str) -> Result<Self, String> {
        let failed = |why: &dyn std::fmt::Display| format!("the wire {near} to {far}: {why}");
        let mut command = Command::new(program);
        command.args([ROLE, near, far]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(|why| failed(&why))?;
        let (Some(orders), Some(said)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(failed(&"it has no pipes"));
        };
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line).map_err(|why| failed(&why))?;
        if line.trim() != "ready" {
            return Err(failed(&"it could not make its devices; see above"));
        }
        Ok(Self { process, orders })
    }

    /// From now on each frame is so late, in each direction.
    pub fn delay(&mut self, by: Duration) -> Result<(), String> {
        let told = writeln!(self.orders, "{}", by.as_millis()).and_then(|()| self.orders.flush());
        told.map_err(|why| format!("a wire does not listen: {why}"))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The process: carries frames between two new devices until its standard input ends. Each line of that is a delay
/// in milliseconds.
pub fn carry(near: &str, far: &str) -> Result<(), String> {
    let (near, far) = (Arc::new(device(near)?), Arc::new(device(far)?));
    let delay_ms = Arc::new(AtomicU64::new(0));
    for (from, to) in [(&near, &far), (&far, &near)] {
        let (late, frames) = sync_channel(FRAMES_MAX);
        let (from, to, delay_ms) = (Arc::clone(from), Arc::clone(to), Arc::clone(&delay_ms));
        thread::spawn(move || take(&from, &late, &delay_ms));
        thread::spawn(move || give(&to, &frames));
    }
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line.map_err(|why| format!("orders cannot be read: {why}"))?;
        let ms = line.trim().parse().map_err(|_| format!("{line:?} is no number of milliseconds"))?;
        delay_ms.store(ms, Ordering::Relaxed);
    }
    Ok(())
}

fn device(name: &str) -> Result<SyncDevice, String> {
    let made = DeviceBuilder::new().name(name).layer(Layer::L2).build_sync();
    made.map_err(|why| format!("the device {name} cannot be made: {why}"))
}

/// A frame and when it is to arrive.
type Late = (Instant, Vec<u8>);

fn take(from: &SyncDevice, late: &SyncSender<Late>, delay_ms: &AtomicU64) {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    // A device that is gone ends the wire.
    while let Ok(length) = from.recv(&mut buffer) {
        let due = Instant::now() + Duration::from_millis(delay_ms.load(Ordering::Relaxed));
        let Some(frame) = buffer.get(..length) else { continue };
        // A full wire loses what comes.
        let _ = late.try_send((due, frame.to_vec()));
    }
}

fn give(to: &SyncDevice, frames: &Receiver<Late>) {
    for (due, frame) in frames {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // A device that is down loses the frame: its cable is pulled.
        let _ = to.send(&frame);
    }
}
