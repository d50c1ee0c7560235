//! Threads of their own for what carries traffic: rules that are compiled, files that are written and answers to
//! operators hold up no packet there.
//!
//! Threads that share work wake each other for it: one alone takes less of the CPUs for what it carries, several carry more
//! at once, and what is slow for one holds up less.

use std::{
    future::Future,
    io,
    num::NonZeroUsize,
    panic::resume_unwind,
    thread::{self, JoinHandle},
};

use tokio::{
    runtime::{Builder, EnterGuard, Handle},
    sync::oneshot,
};

/// Threads on which connections are read and written. Dropping it ends what runs there.
#[derive(Debug)]
pub struct Traffic {
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    owner: Option<JoinHandle<()>>,
}

impl Traffic {
    /// Starts so many threads; without a number, one for each CPU.
    ///
    /// # Errors
    /// The system refuses threads or files.
    pub fn start(threads: Option<NonZeroUsize>) -> io::Result<Self> {
        let mut builder = match threads.unwrap_or_else(one_for_each_cpu).get() {
            1 => Builder::new_current_thread(),
            threads => {
                let mut builder = Builder::new_multi_thread();
                builder.worker_threads(threads);
                builder
            }
        };
        let runtime = builder.enable_all().thread_name("traffic").build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let owner = thread::Builder::new().name("traffic".to_owned()).spawn(move || {
            // Nothing is ever sent: the channel closes.
            runtime.block_on(stopped).ok();
        })?;
        Ok(Self { runtime: handle, stop: Some(stop), owner: Some(owner) })
    }

    /// What is opened and started while the guard lives, is so on these threads.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Runs a task there, and what it starts.
    pub async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> T {
        match self.runtime.spawn(task).await {
            Ok(output) => output,
            // Nobody aborts it, and the runtime lives as long as `self`.
            Err(ended) => resume_unwind(ended.into_panic()),
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(owner) = self.owner.take() {
            // It has panicked only if a destructor of a task has.
            owner.join().ok();
        }
    }
}

fn one_for_each_cpu() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn what_runs_there_and_what_it_starts_is_on_its_threads() {
        for threads in [1, 3] {
            let traffic = Traffic::start(NonZeroUsize::new(threads)).unwrap();
            let inner = traffic.run(async { tokio::spawn(async { name() }).await.unwrap() }).await;
            assert_eq!(inner.as_deref(), Some("traffic"), "{threads}");
            let entered = traffic.enter();
            let started = tokio::spawn(async { name() });
            drop(entered);
            assert_eq!(started.await.unwrap().as_deref(), Some("traffic"), "{threads}");
        }
    }

    #[tokio::test]
    async fn what_still_runs_ends_with_it() {
        for threads in [1, 3] {
            let traffic = Traffic::start(NonZeroUsize::new(threads)).unwrap();
            let held = Arc::new(Mutex::new(()));
            let own = Arc::clone(&held);
            let entered = traffic.enter();
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(own);
            });
            drop(entered);
            drop(traffic);
            assert_eq!(Arc::strong_count(&held), 1, "{threads}");
        }
    }

    fn name() -> Option<String> {
        thread::current().name().map(str::to_owned)
    }
}
