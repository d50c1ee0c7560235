//! One flow of intercepted datagrams.

use std::{sync::Arc, time::Duration};

use nightgate_model::configs::Protocol;
use nightgate_telemetry::{DatagramLoss, Metrics};
use tokio::time::sleep;
use tracing::debug;

use super::{
    IdleTimes,
    messages::{Inward, MessageError, Outward, halves},
    queue::Waiting,
    silence::Silence,
    socket::{Ends, Sender},
};
use crate::{intercept::InterceptedService, interceptor::Interceptor};

/// For this long the datagrams of a flow that was refused are lost before they lead to another dial.
const REFUSED: Duration = Duration::from_secs(1);

/// A flow that is carried.
pub(super) struct Flow {
    pub(super) ends: Ends,
    pub(super) service: InterceptedService,
    pub(super) interceptor: Interceptor,
    pub(super) sender: Arc<Sender>,
    pub(super) idle: IdleTimes,
}

impl Flow {
    /// Dials, and carries datagrams until there is silence, or the circuit ends.
    pub(super) async fn run(self, waiting: Waiting) {
        let Self { ends, service, interceptor, .. } = &self;
        let ways = [ends.client, ends.destination];
        let (circuit, protection, _listed) =
            match interceptor.open(service, Protocol::Udp, ways, None).await {
                Ok(opened) => opened,
                Err(error) => {
                    debug!(service = %service.name, ?ends, %error, "intercepted datagrams refused");
                    return lose(&waiting, &interceptor.metrics).await;
                }
            };
        let (outward, mut inward) = halves(circuit, protection);
        let silence = Silence::new(self.idle.unanswered);
        let ended = tokio::select! {
            ended = self.upload(outward, &waiting, &silence) => ended,
            ended = self.download(&mut inward, &silence) => ended,
            () = silence.over() => return,
        };
        if let Err(error) = ended {
            let cause = inward.cause().map(|cause| cause.as_str());
            debug!(service = %service.name, ?ends, %error, cause, "intercepted datagrams ended");
        }
    }

    /// Sends what the client says, for ever.
    async fn upload(
        &self,
        mut outward: Outward,
        waiting: &Waiting,
        silence: &Silence,
    ) -> Result<(), MessageError> {
        outward.begin().await?;
        loop {
            let mut taken = waiting.take().await;
            silence.spoken();
            self.interceptor.metrics.bytes_sent(taken.bundle.payload());
            // What waits for room in the circuit still takes its own.
            let lost = outward.send(std::mem::take(&mut taken.bundle)).await?;
            self.interceptor.metrics.datagrams_lost(DatagramLoss::Empty, lost);
        }
    }

    /// Sends what comes to the client, until the circuit is over.
    async fn download(&self, inward: &mut Inward, silence: &Silence) -> Result<(), MessageError> {
        let metrics = &self.interceptor.metrics;
        while let Some(message) = inward.next().await? {
            for datagram in message.datagrams() {
                silence.allow(self.idle.answered);
                silence.spoken();
                metrics.bytes_received(datagram.len());
                if let Err(error) = self.sender.send(self.ends, &datagram) {
                    metrics.datagrams_lost(DatagramLoss::Send, 1);
                    debug!(ends = ?self.ends, %error, "an answer could not be sent");
                }
            }
        }
        Ok(())
    }
}

/// Loses the datagrams of a refused flow for a while.
async fn lose(waiting: &Waiting, metrics: &Metrics) {
    let over = sleep(REFUSED);
    tokio::pin!(over);
    loop {
        tokio::select! {
            taken = waiting.take() => {
                metrics.datagrams_lost(DatagramLoss::Refused, taken.bundle.count());
            }
            () = &mut over => return,
        }
    }
}
