//! Many routers with many circuits, restarted in turn.

use std::time::{Duration, Instant};

use nightgate_fabric::{Command, EndId, KeyShare, Lane, weight};
use nightgate_model::entity::Terminator;

use crate::{
    dice::Dice,
    network::{Edge, Happening, Network},
    run::{dial, replica, terminator},
    talks::{Place, Talks, message},
};

/// A network and how it is treated.
pub(crate) struct Scale {
    pub(crate) routers: usize,
    pub(crate) circuits: usize,
    /// Parts of all routers, in percent, that are restarted one after the other.
    pub(crate) restarts: &'static [usize],
}

struct Run {
    network: Network<()>,
    talks: Talks,
}

/// Time that a restarted router is away.
const AWAY: Duration = Duration::from_secs(1);

/// Longer than a circuit waits for a path, and than it avoids links that failed it: no circuit moves any more.
const QUIET: Duration = Duration::from_secs(90);

impl Scale {
    /// Runs it; panics when anything is lost or left over, and prints what it cost.
    pub(crate) fn run(&self) {
        let (began, cpu) = (Instant::now(), cpu_seconds());
        let mut dice = Dice(1);
        let mut network = Network::new(1, self.routers, self.edges(&mut dice), replica());
        for at in (0..self.routers).step_by(25) {
            let terminator: Terminator = terminator(at);
            network.nodes[at].terminators.push(terminator.clone());
            network.with(at, |router, _| router.host(terminator));
        }
        let mut run = Run { network, talks: Talks::default() };
        run.pass(Duration::from_secs(3));
        for count in 0..self.circuits {
            run.dial(count % self.routers);
        }
        run.pass(Duration::from_secs(5));
        let standing = run.talks.speakers().len() / 2;
        assert!(standing * 100 > self.circuits * 99, "{standing} circuits stand");
        let before = run.network.frames;
        println!("{standing} circuits stand after {before} frames, {:?}", began.elapsed());
        for part in self.restarts {
            run.restart(self.routers * part / 100, &mut dice);
            println!("{part} % restarted: {} frames, {:?}", run.network.frames, began.elapsed());
        }
        run.pass(QUIET);
        let alive = run.check();
        println!(
            "{alive} circuits whose routers were never restarted are alive; {} frames in all, {:.0} s of \
             CPU, {} MiB at most",
            run.network.frames,
            cpu_seconds() - cpu,
            most_memory(),
        );
    }

    /// A ring with two chords for each router.
    fn edges(&self, dice: &mut Dice) -> Vec<Edge> {
        let count = self.routers;
        let ring = (0..count).map(|at| [at, (at + 1) % count]);
        let chords: Vec<[usize; 2]> =
            (0..2 * count).map(|at| [at % count, dice.below(count)]).collect();
        ring.chain(chords.into_iter().filter(|[a, b]| a != b))
            .map(|ends| Edge {
                ends,
                delay: dice.millis(1, 20),
                rate: 100_000,
                cut: false,
                connections: 1,
            })
            .collect()
    }
}

impl Run {
    fn place(&self, node: usize, end: EndId) -> Place {
        (node, self.network.nodes[node].life, end)
    }

    fn dial(&mut self, at: usize) {
        self.network
            .with(at, |router, now| router.dial(dial("anna"), Lane::default(), now).is_ok());
    }

    fn pass(&mut self, time: Duration) {
        let until = self.network.now + time;
        while let Some(happening) = self.network.next(until) {
            if let Happening::Command(node, command) = happening {
                self.command(node, *command);
            }
        }
    }

    fn command(&mut self, node: usize, command: Command) {
        match command {
            Command::Offer(end, circuit, _) => {
                self.talks.offered(circuit, self.place(node, end));
                self.network.with(node, |r, now| r.accept(end, KeyShare::default(), now));
            }
            Command::Opened(end, circuit, _) => self.talks.opened(circuit, self.place(node, end)),
            Command::Deliver(end, payload) => {
                self.talks.heard(self.place(node, end), &payload);
                self.network.with(node, |r, now| r.consumed(end, weight(&payload), now));
            }
            Command::Closed(end, cause) => self.talks.ended(self.place(node, end), cause),
            Command::Moved(..) | Command::Refused(..) | Command::Credit(..) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Restarts so many routers, ten in a second, while circuits talk.
    fn restart(&mut self, count: usize, dice: &mut Dice) {
        let routers = self.network.nodes.len();
        let mut away = std::collections::VecDeque::new();
        for _ in 0..count {
            let node = dice.below(routers);
            if self.network.nodes[node].router.is_some() {
                self.network.kill(node);
                away.push_back((self.network.now + AWAY, node));
            }
            self.say(dice);
            self.pass(Duration::from_millis(100));
            while let Some((_, node)) = away.pop_front_if(|(at, _)| *at <= self.network.now) {
                self.network.start(node);
            }
        }
        self.pass(AWAY);
        away.iter().for_each(|(_, node)| self.network.start(*node));
    }

    fn say(&mut self, dice: &mut Dice) {
        let speakers = self.talks.speakers();
        for _ in 0..20 {
            let (circuit, side, place) = speakers[dice.below(speakers.len())];
            if self.network.nodes[place.0].life != place.1 {
                continue;
            }
            let number = self.talks.talks[&circuit].sent[side];
            let payload = message(circuit, side, number);
            let sent = self.network.with(place.0, |router, now| router.send(place.2, payload, now));
            if matches!(sent, Some(Ok(()))) {
                self.talks.talks.get_mut(&circuit).unwrap().sent[side] += 1;
            }
        }
    }

    fn check(&self) -> usize {
        let lives: Vec<u64> = self.network.nodes.iter().map(|node| node.life).collect();
        let routers: Vec<_> =
            self.network.nodes.iter().map(|node| node.router.as_ref().unwrap()).collect();
        self.talks.check(&lives, &routers)
    }
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    // USER_HZ, the same on all Linux systems that we run on.
    ticks / 100.0
}

fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
