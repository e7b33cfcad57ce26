//! The mailbox and the doorbell in one thread.
#![cfg(not(any(loom, shuttle)))]

use corewire_rings::{Doorbell, mailbox, mailbox::TrySendError};
use corewire_testkit::CountingWaker;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

#[test]
fn a_full_mailbox_gives_the_message_back() {
    let (sender, mut receiver) = mailbox(2);
    assert_eq!((sender.try_send(1), sender.try_send(2)), (Ok(()), Ok(())));
    assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
    assert_eq!((sender.len(), sender.is_empty()), (2, false));
    assert_eq!((receiver.try_recv(), receiver.try_recv(), receiver.try_recv()), (Some(1), Some(2), None));
    let (sender, _receiver) = mailbox(0);
    assert_eq!((sender.try_send(1), sender.try_send(2)), (Ok(()), Err(TrySendError::Full(2))));
}

#[test]
fn dropping_the_receiver_closes_the_mailbox_and_drops_messages() {
    let (sender, receiver) = mailbox(2);
    let message = Rc::new(());
    sender.try_send(Rc::clone(&message)).unwrap();
    drop(receiver);
    assert_eq!(Rc::strong_count(&message), 1);
    assert!(sender.is_closed());
    assert_eq!(sender.try_send(Rc::clone(&message)).unwrap_err().into_inner(), message);
}

#[test]
fn a_receiver_drains_before_it_sees_that_all_senders_are_gone() {
    let (count, waker) = CountingWaker::pair();
    let mut cx = Context::from_waker(&waker);
    let (sender, mut receiver) = mailbox(2);
    assert_eq!(receiver.poll_recv(&mut cx), Poll::Pending);
    let second = sender.clone();
    drop(sender);
    assert_eq!((count.wakes(), receiver.is_finished()), (0, false));
    second.try_send(1).unwrap();
    drop(second);
    assert_eq!(count.wakes(), 1);
    assert!(!receiver.is_finished());
    assert_eq!(receiver.poll_recv(&mut cx), Poll::Ready(Some(1)));
    assert_eq!(receiver.poll_recv(&mut cx), Poll::Ready(None));
    assert!(receiver.is_finished());
}

#[test]
fn a_bell_wakes_once_each_time_it_is_armed() {
    let (count, waker) = CountingWaker::pair();
    let bell = Doorbell::new();
    bell.ring();
    for round in 1..4 {
        assert!(bell.arm(&waker));
        assert!(bell.arm(&waker));
        bell.ring();
        bell.ring();
        assert_eq!(count.wakes(), round);
    }
    assert!(bell.arm(&waker));
    bell.disarm();
    bell.disarm();
    bell.ring();
    assert_eq!((count.wakes(), Arc::strong_count(&count)), (3, 2));
}
