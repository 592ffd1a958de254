//! Places to work in: at most so many steps at once, and of those that wait, the one with the longest chain of work after it first.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::oneshot;

/// A limited number of places in which steps run, handed out by priority.
#[derive(Clone)]
pub(crate) struct Slots(Arc<Mutex<SlotState>>);

struct SlotState {
    free: usize,
    asked: u64,
    waiting: BinaryHeap<Waiting>,
}

struct Waiting {
    priority: u64,
    asked: Reverse<u64>,
    wake: oneshot::Sender<Slot>,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        (self.priority, self.asked) == (other.priority, other.asked)
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.priority, self.asked).cmp(&(other.priority, other.asked))
    }
}

/// One place of [`Slots`], held until it is dropped; the waiter with the highest priority gets it next.
pub(crate) struct Slot(Option<Slots>);

impl Slots {
    /// A pool of `count` free places, at least one.
    pub(crate) fn new(count: usize) -> Self {
        Self(Arc::new(Mutex::new(SlotState { free: count.max(1), asked: 0, waiting: BinaryHeap::new() })))
    }

    /// Takes a place, waiting for one if none is free.
    ///
    /// Of those that wait, the highest `priority` is served first (the solver passes the weight of the longest path
    /// that still follows), then the one that asked first. Dropping the future gives up the wait.
    pub(crate) async fn take(&self, priority: u64) -> Slot {
        let receiver = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.free > 0 {
                state.free -= 1;
                return Slot(Some(self.clone()));
            }
            let (wake, receiver) = oneshot::channel();
            state.asked += 1;
            let asked = Reverse(state.asked);
            state.waiting.push(Waiting { priority, asked, wake });
            receiver
        };
        receiver.await.expect("a waiting place is always answered: the queue outlives its slots")
    }

    fn give_back(self) {
        let mut slot = Slot(Some(self.clone()));
        loop {
            let next = {
                let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                match state.waiting.pop() {
                    Some(next) => next,
                    None => {
                        state.free += 1;
                        slot.0 = None;
                        return;
                    }
                }
            };
            // A waiter that was cancelled gives the place back: the next one is served.
            match next.wake.send(slot) {
                Ok(()) => return,
                Err(back) => slot = back,
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(slots) = self.0.take() {
            slots.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_way_goes_first_and_cancelled_waiters_lose_nothing() {
        let slots = Slots::new(1);
        let held = slots.take(0).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for priority in [1, 3, 2] {
            let (slots, order) = (slots.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let slot = slots.take(priority).await;
                order.lock().expect("test").push(priority);
                drop(slot);
            }));
            tokio::task::yield_now().await;
        }
        let cancelled = tokio::spawn({
            let slots = slots.clone();
            async move { drop(slots.take(9).await) }
        });
        tokio::task::yield_now().await;
        cancelled.abort();
        assert!(cancelled.await.is_err());
        drop(held);
        for task in tasks {
            task.await.expect("no task panics");
        }
        assert_eq!(*order.lock().expect("test"), [3, 2, 1]);
        drop(slots.take(0).await);
    }
}
