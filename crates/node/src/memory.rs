//! Memory that the allocator keeps after a peak goes back to the operating system.
//!
//! A start, a checkpoint of many copies and a status of many files each need tens of megabytes for a moment. glibc keeps what was
//! freed between allocations that live on, in an arena per thread, for as long as the process runs: a controller that shares
//! its host with virtual machines would seem to need its worst moment's memory for ever.

use std::time::Duration;

/// Seconds between two looks at the allocator; memory of a peak goes back within this time.
const EVERY: Duration = Duration::from_secs(30);
/// Free bytes that the allocator may keep, for they are needed again at once by the next calls; below it nothing is given back.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// Starts the thread that gives memory back. It ends with the process.
///
/// # Errors
/// The operating system refuses a thread.
pub(crate) fn attend() -> std::io::Result<()> {
    let look = || loop {
        std::thread::sleep(EVERY);
        give_back();
    };
    std::thread::Builder::new().name("memory".into()).spawn(look).map(drop)
}

/// Gives free memory back if there is more than `KEPT_BYTES_MAX` of it.
#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: it takes nothing and returns numbers.
    let free = unsafe { libc::mallinfo2() }.fordblks;
    if free > KEPT_BYTES_MAX {
        // SAFETY: it locks each arena for the time in which it gives that arena's free pages back; no pointer is passed.
        unsafe { libc::malloc_trim(0) };
    }
}

/// musl's allocator gives its large pieces back by itself, and has no such call.
#[cfg(not(target_env = "gnu"))]
fn give_back() {}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    fn resident_bytes() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    }

    #[test]
    fn what_lies_freed_between_living_allocations_goes_back() {
        let mut pieces: Vec<Vec<u8>> = (0..16_384).map(|_| vec![1u8; 16 << 10]).collect();
        let full = resident_bytes();
        // Every hundredth piece lives on, so that the heap cannot shrink from its end.
        let mut at = 0;
        pieces.retain(|_| {
            at += 1;
            at % 100 == 0
        });
        give_back();
        let after = resident_bytes();
        assert!(after + (128 << 20) < full, "{full} bytes before, {after} after");
        assert_eq!(pieces.len(), 163);
    }
}
