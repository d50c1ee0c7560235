//! How events reach the actor: whoever has one carries it out at once, unless somebody else is at it, who then
//! does it too. No task has to be woken for a frame to pass.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    time::Instant,
};

use tokio::{runtime::Handle, sync::watch};

use crate::actor::{Actor, Event};

/// The router has stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stopped;

/// Takes events. Clones are of the same actor.
#[derive(Clone)]
pub(crate) struct Mailbox(Arc<Shared>);

struct Shared {
    inbox: Mutex<Inbox>,
    /// None before it has moved in, and after the router has stopped.
    actor: Mutex<Option<Actor>>,
    /// When the actor wants to be woken.
    alarm: watch::Sender<Option<Instant>>,
    /// Events may come from threads that know no runtime, and the actor starts tasks.
    runtime: Handle,
}

#[derive(Default)]
struct Inbox {
    events: VecDeque<Event>,
    is_closed: bool,
}

impl Mailbox {
    /// One without an actor: events wait for it.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            inbox: Mutex::default(),
            actor: Mutex::new(None),
            alarm: watch::Sender::default(),
            runtime: Handle::current(),
        }))
    }

    /// Gives the actor an event. The event may be carried out when this returns, or be under way.
    pub(crate) fn send(&self, event: Event) -> Result<(), Stopped> {
        let mut inbox = lock(&self.0.inbox);
        if inbox.is_closed {
            return Err(Stopped);
        }
        inbox.events.push_back(event);
        drop(inbox);
        self.0.work();
        Ok(())
    }

    /// As [`Self::send`]. A stopped router has nobody to tell; whoever waits for an answer sees the channel close.
    pub(crate) fn tell(&self, event: Event) {
        self.send(event).ok();
    }

    /// Wakes the actor when it wants to be woken, until this is dropped; then the actor is gone.
    pub(crate) async fn run(self, actor: Actor) {
        *lock(&self.0.actor) = Some(actor);
        let own = Running(self);
        let mut alarm = own.0.0.alarm.subscribe();
        own.0.0.work();
        loop {
            let at = *alarm.borrow_and_update();
            tokio::select! {
                () = sleep_until(at) => {
                    // The actor says anew when it wants to be woken, if it does: this time has passed.
                    own.0.0.alarm.send_if_modified(|alarm| alarm.take_if(|it| Some(*it) == at).is_some());
                    own.0.tell(Event::Time);
                }
                _never_closed = alarm.changed() => {}
            }
        }
    }
}

/// A mailbox whose actor is there.
struct Running(Mailbox);

impl Drop for Running {
    fn drop(&mut self) {
        let shared = &self.0.0;
        let mut inbox = lock(&shared.inbox);
        inbox.is_closed = true;
        let unread = mem::take(&mut inbox.events);
        drop(inbox);
        let actor = lock(&shared.actor).take();
        // Both may hold circuits, which tell of their end when they are dropped: nothing is locked then.
        drop((unread, actor));
    }
}

impl Shared {
    fn work(&self) {
        let _runtime = self.runtime.enter();
        loop {
            let mut actor = match self.actor.try_lock() {
                Ok(actor) => actor,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // Whoever has it looks into the inbox once more after giving it back.
                Err(TryLockError::WouldBlock) => return,
            };
            let Some(actor_in) = actor.as_mut() else { return };
            self.read_all(actor_in);
            drop(actor);
            if lock(&self.inbox).events.is_empty() {
                return;
            }
        }
    }

    fn read_all(&self, actor: &mut Actor) {
        let mut events = VecDeque::new();
        loop {
            mem::swap(&mut events, &mut lock(&self.inbox).events);
            if events.is_empty() {
                break;
            }
            let now = Instant::now();
            for event in events.drain(..) {
                actor.handle(event, now);
            }
        }
        if let Some(alarm) = actor.new_alarm() {
            self.alarm.send_replace(Some(alarm));
        }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
