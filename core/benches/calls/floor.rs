//! What the machine takes for the ways of a call that has nothing to do, one at a time: to wake another thread and be woken
//! by it, and the same over a socket. It is most of what a lone call costs, and very different from machine to machine, and
//! from one minute to the next on a machine that is shared.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    sync::mpsc,
    thread,
    time::Instant,
};

/// How many microseconds it takes to hand something to another thread and be handed it back.
pub(crate) fn wake() -> f64 {
    let (there, arrived) = mpsc::sync_channel::<()>(1);
    let (back, returned) = mpsc::sync_channel::<()>(1);
    let other = thread::spawn(move || {
        for () in arrived {
            if back.send(()).is_err() {
                return;
            }
        }
    });
    let time = each(|| {
        there.send(()).expect("the other thread waits for it");
        returned.recv().expect("the other thread sends it back");
    });
    drop(there);
    other.join().expect("the other thread does not panic");
    time
}

/// How many microseconds it takes to write so many bytes to a socket, of which another thread sends a few back.
pub(crate) fn socket(bytes: usize) -> std::io::Result<f64> {
    let (mut here, mut there) = UnixStream::pair()?;
    let other = thread::spawn(move || {
        let mut buffer = vec![0; bytes];
        while there.read_exact(&mut buffer).is_ok() {
            if there.write_all(&[0; ANSWER]).is_err() {
                return;
            }
        }
    });
    let (call, mut answer) = (vec![0; bytes], [0; ANSWER]);
    let time = each(|| {
        here.write_all(&call).expect("the other thread reads");
        here.read_exact(&mut answer).expect("the other thread answers");
    });
    drop(here);
    other.join().expect("the other thread does not panic");
    Ok(time)
}

fn each(mut round: impl FnMut()) -> f64 {
    for _ in 0..ROUNDS / 10 {
        round();
    }
    let began = Instant::now();
    for _ in 0..ROUNDS {
        round();
    }
    began.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS)
}

const ROUNDS: u32 = 5_000;
/// Bytes of the report of a call that has nothing to say.
const ANSWER: usize = 16;
