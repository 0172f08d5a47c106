//! The system's random numbers, and nothing else: keys, nonces and jitter all come from here.

/// `N` random bytes fit for keys.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    #[cfg(test)]
    if let Some(byte) = fixed::now() {
        return Ok([byte; N]);
    }
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// A number in `[0, 1)` for jitter. Where the system gives none, the middle: jitter is a courtesy, not a promise.
pub(crate) fn fraction() -> f64 {
    match getrandom::u32() {
        Ok(number) => f64::from(number) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 0.5,
    }
}

/// For tests that need the same bytes each time: while a future of [`fixed::with`] is polled, all random bytes are one.
#[cfg(test)]
pub(crate) mod fixed {
    use std::cell::Cell;
    use std::future::{Future, poll_fn};
    use std::pin::pin;

    thread_local!(static NOW: Cell<Option<u8>> = const { Cell::new(None) });

    pub(crate) fn now() -> Option<u8> {
        NOW.get()
    }

    pub(crate) async fn with<T>(byte: u8, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            NOW.set(Some(byte));
            let polled = future.as_mut().poll(cx);
            NOW.set(None);
            polled
        })
        .await
    }
}
