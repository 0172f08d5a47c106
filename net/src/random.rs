//! The system's random numbers, and nothing else: keys, nonces and jitter all come from here.

/// `N` random bytes fit for keys.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], getrandom::Error> {
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
