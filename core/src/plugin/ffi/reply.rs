//! Answers to the requests of a plugin: each exactly once, whatever becomes of the work.

use std::ffi::c_void;

use bytes::Bytes;
use jackfield_abi as abi;

use super::{call::abi_size, memory};
use crate::plugin::HostError;

/// What a request is answered.
pub(super) type Answer = Result<Reply, HostError>;

/// A good answer.
#[derive(Default)]
pub(super) struct Reply {
    pub(super) value: Bytes,
    pub(super) stage: u32,
}

impl From<Bytes> for Reply {
    fn from(value: Bytes) -> Self {
        Self { value, stage: 0 }
    }
}

pub(super) fn unavailable(message: &str) -> Answer {
    Err(HostError::Unavailable(message.to_owned()))
}

/// The right, and the duty, to answer one request.
pub(super) struct Replier {
    reply: abi::ReplyFn,
    context: *mut c_void,
    answered: bool,
}

// SAFETY: the ABI says that the reply may come on any thread.
unsafe impl Send for Replier {}

impl Replier {
    pub(super) fn new(reply: abi::ReplyFn, context: *mut c_void) -> Self {
        Self {
            reply,
            context,
            answered: false,
        }
    }

    pub(super) fn send(mut self, answer: Answer) {
        self.answer(&answer);
    }

    fn answer(&mut self, answer: &Answer) {
        let (status, message) = match answer {
            Ok(_) => (abi::OK, ""),
            Err(HostError::NotFound(message)) => (abi::NOT_FOUND, message.as_str()),
            Err(HostError::Invalid(message)) => (abi::REFUSED, message.as_str()),
            Err(HostError::Unavailable(message)) => (abi::UNAVAILABLE, message.as_str()),
        };
        let (value, stage) = answer
            .as_ref()
            .map_or((&[][..], 0), |reply| (&reply.value[..], reply.stage));
        let reply = abi::Reply {
            struct_size: abi_size::<abi::Reply>(),
            status,
            stage,
            reserved: 0,
            value: memory::lend(value),
            message: memory::lend(message.as_bytes()),
        };
        self.answered = true;
        // SAFETY: the plugin gave function and context for exactly one answer, and `answered` sees to that.
        unsafe { (self.reply)(self.context, &raw const reply) };
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        if !self.answered {
            self.answer(&unavailable("the router is stopping"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    type Heard = mpsc::Sender<(u32, u32, Vec<u8>)>;

    unsafe extern "C" fn hear(context: *mut c_void, reply: *const abi::Reply) {
        // SAFETY: the context is the sender that each test lends to its replier.
        let heard = unsafe { &*context.cast::<Heard>() };
        // SAFETY: the reply is valid until this returns.
        let reply = unsafe { *reply };
        // SAFETY: as above.
        let value = unsafe { memory::bytes(reply.value) };
        heard
            .send((reply.status, reply.stage, value.to_vec()))
            .expect("the test listens");
    }

    /// What the plugin hears of a replier that `work` gets.
    fn heard(work: impl FnOnce(Replier)) -> Vec<(u32, u32, Vec<u8>)> {
        let (sender, receiver) = mpsc::channel();
        work(Replier::new(hear, (&raw const sender).cast_mut().cast()));
        drop(sender);
        receiver.iter().collect()
    }

    #[test]
    fn an_answer_is_heard_once() {
        let reply = Reply {
            value: Bytes::from_static(b"17"),
            stage: 2,
        };
        assert_eq!(
            heard(|replier| replier.send(Ok(reply))),
            [(abi::OK, 2, b"17".to_vec())]
        );
        for (error, status) in [
            (HostError::NotFound("a".to_owned()), abi::NOT_FOUND),
            (HostError::Invalid("b".to_owned()), abi::REFUSED),
            (HostError::Unavailable("c".to_owned()), abi::UNAVAILABLE),
        ] {
            assert_eq!(
                heard(|replier| replier.send(Err(error))),
                [(status, 0, Vec::new())]
            );
        }
    }

    #[test]
    fn work_that_is_dropped_or_panics_is_answered_too() {
        let unavailable = [(abi::UNAVAILABLE, 0, Vec::new())];
        assert_eq!(heard(drop), unavailable);
        let panics = |replier: Replier| {
            super::super::call::contain(move || {
                let _replier = replier;
                panic!("on purpose");
            });
        };
        assert_eq!(heard(panics), unavailable);
    }
}
