//! What the running gateway answers its operators.

use std::sync::Arc;

use serde::Serialize;

use super::{
    super::{explain, rules::Host, verdicts},
    Live, clock,
};
use crate::{
    admin::{Explain, FlowRequest, Query, Request, Topic},
    report::{ExplainReport, NameReport, RouterReport, SensorReport, mirror_metrics},
};

impl Live {
    /// Does what an operator asks for, and answers.
    pub(super) async fn serve(&mut self, query: Query) {
        if let Request::Trace(request) = query.request.clone() {
            return self.tracer.start(query, &request, &mut self.firewall);
        }
        if let Request::Explain(question) = &query.request {
            let explained = self.explain(question).await;
            return self.try_and_answer(query, explained);
        }
        let answer = self.answer(query.request.clone()).await;
        query.answer(answer);
    }

    async fn explain(
        &self,
        question: &Explain,
    ) -> Result<(ExplainReport, Option<explain::Trial>), String> {
        let table = self.table.borrow().clone();
        let clock = clock()?;
        let replica = Arc::clone(&self.router.replica().borrow());
        let model = (replica.as_ref(), &self.identity);
        explain::explain(&self.firewall, &table, &clock, model, question).await
    }

    /// Answers an explanation when its trial has ended, if there is one; nothing else waits for that.
    fn try_and_answer(
        &self,
        query: Query,
        explained: Result<(ExplainReport, Option<explain::Trial>), String>,
    ) {
        let interceptor = self.interceptor.clone();
        tokio::spawn(async move {
            let explained = match explained {
                Ok((mut report, Some(trial))) => {
                    report.way.push(trial.step(&interceptor).await);
                    Ok(report)
                }
                Ok((report, None)) => Ok(report),
                Err(error) => Err(error),
            };
            query.answer(value(explained));
        });
    }

    async fn answer(&mut self, request: Request) -> Result<serde_json::Value, String> {
        match request {
            Request::Show(topic) => self.show(topic).await,
            Request::Plan(file) => value(self.rules.plan(file)),
            Request::Apply(_) | Request::Rollback if self.learning.is_on() => {
                Err("the gateway learns: end that first, by `nightgate fw learn --stop`".into())
            }
            Request::Apply(apply) => {
                let mut host =
                    Host::new(&mut self.firewall, &mut self.surroundings, &mut self.records);
                let applied = self.rules.apply(&mut host, apply).await;
                self.addresses.apply(&mut self.firewall).await;
                self.intercept();
                value(applied)
            }
            Request::Confirm => value(self.rules.confirm(&mut self.firewall)),
            Request::Rollback => {
                let mut host =
                    Host::new(&mut self.firewall, &mut self.surroundings, &mut self.records);
                let rolled_back = self.rules.rollback(&mut host).await;
                self.intercept();
                value(rolled_back)
            }
            Request::Flows(request) => self.flows(&request),
            Request::KillFlows(request) => {
                let table = self.table.borrow().clone();
                value(self.firewall.kill_flows(&request, &table, &clock()?))
            }
            Request::Quarantine(quarantine) => {
                value(verdicts::quarantine_by_hand(&mut self.firewall, &quarantine))
            }
            Request::Release(who) => value(self.verdicts.release(&who, &mut self.firewall)),
            Request::SecondFactor(_) => Err("a gateway has no second factor".into()),
            Request::Trace(_) => Err("a trace is told as it happens".into()),
            Request::Explain(_) => Err("an explanation may take a trial".into()),
            Request::Learn(learn) => {
                value(self.learning.begin(&mut self.firewall, &self.rules, &learn))
            }
            Request::StopLearning => value(self.learning.end(&mut self.firewall, &self.rules)),
            Request::Learned => value(Ok::<_, String>(self.learning.report(&self.rules))),
        }
    }

    fn flows(&self, request: &FlowRequest) -> Result<serde_json::Value, String> {
        value(self.firewall.flow_reports(request, &self.table.borrow(), &clock()?))
    }

    async fn show(&self, topic: Topic) -> Result<serde_json::Value, String> {
        match topic {
            Topic::Router => {
                let status = self.router.status().await;
                value(Ok::<_, String>(RouterReport::new(status, &self.router.replica().borrow())))
            }
            Topic::Counters => value(self.firewall.reasons()),
            Topic::Drops => value(self.firewall.drop_reports()),
            Topic::Rules => value(self.firewall.rule_reports(&clock()?)),
            Topic::Flows => self.flows(&FlowRequest::default()),
            Topic::Mirror => value(self.firewall.mirror_reports()),
            Topic::Sensors => value(self.sensor_reports().await),
            Topic::Names => value(Ok::<_, String>(NameReport::list(self.table.borrow().names()))),
            Topic::Verdicts => value(Ok::<_, String>(self.verdicts.reports())),
            Topic::Quarantine => value(self.verdicts.cut_off(&self.firewall)),
            Topic::Tunnel => Err("this is a gateway; a tunneler has a socket of its own".into()),
            Topic::Metrics => {
                self.firewall
                    .count_packets(&self.metrics)
                    .map_err(|error| format!("read the kernel's counters: {error}"))?;
                let gateway = self.metrics.render().map_err(|error| error.to_string())?;
                let router = self.router.metrics().await.map_err(|error| error.to_string())?;
                let mirror = self.mirror_metrics().await?;
                value(Ok::<_, String>(gateway + &mirror + &router))
            }
        }
    }

    async fn sensor_reports(&self) -> Result<Vec<SensorReport>, String> {
        let drops = self.surroundings.queue_drops().await;
        let reports = self.firewall.sensor_reports(self.surroundings.sensors(), &drops);
        reports.map_err(|error| error.to_string())
    }

    async fn mirror_metrics(&self) -> Result<String, String> {
        let sensors = self.sensor_reports().await?;
        if sensors.is_empty() {
            return Ok(String::new());
        }
        let copies = self.firewall.mirror_reports().map_err(|error| error.to_string())?;
        mirror_metrics(&copies, &sensors).map_err(|error| error.to_string())
    }
}

fn value<T: Serialize, E: ToString>(report: Result<T, E>) -> Result<serde_json::Value, String> {
    let report = report.map_err(|error| error.to_string())?;
    serde_json::to_value(report).map_err(|error| error.to_string())
}
