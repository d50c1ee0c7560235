//! What the hostile router does.

use nightgate_wire::{
    Headers,
    link::{Ack, Frame, Numbered, PathId, Wish, header},
};

use super::Run;

impl Run {
    /// The hostile router hears everything, and sends its neighbours what it likes.
    pub(super) fn forge(&mut self) {
        let links = self.network.neighbours(self.hostile);
        if links.is_empty() || self.network.overheard.is_empty() {
            return;
        }
        self.totals.forged += 1;
        let (link, peer) = links[self.network.dice.below(links.len())];
        let heard = self.network.overheard.len();
        let frame = self.network.overheard[self.network.dice.below(heard)].clone();
        let path = frame.path().unwrap_or(PathId(0));
        let number = self.network.dice.below(50) as u64;
        let ack = Ack { received: number, limit: u64::MAX, stamp: 1, wish: Wish::Repeat };
        let forged = match self.network.dice.below(9) {
            0 => Frame::Close(path),
            1 => Frame::Unroute(path, Headers::new()),
            2 => Frame::Fin(path, number),
            3 => Frame::Ack(path, ack),
            4 => Frame::Payload(path, Numbered { sequence: number, ..Numbered::default() }),
            5 => self.through_me(&frame, peer).unwrap_or(frame),
            6 => Frame::Rerouted(path, Headers::new()),
            _ => frame,
        };
        self.network.send(self.hostile, link, forged);
    }

    /// A request of somebody else, led over the hostile router, under a number of its own.
    fn through_me(&mut self, frame: &Frame, peer: usize) -> Option<Frame> {
        let (Frame::Open(_, headers) | Frame::Reroute(_, headers)) = frame else { return None };
        let mut headers = headers.clone();
        let path = headers.text(header::PATH)?.to_owned();
        let first = path.split('\n').next()?;
        let path = format!("{first}\nr{}\nr{peer}", self.hostile);
        headers.put_text(header::PATH, &path);
        // A request for a circuit under another's name is the one thing that this router is believed.
        match frame {
            Frame::Reroute(..) => Some(Frame::Reroute(PathId(self.network.dice.next()), headers)),
            _ => None,
        }
    }
}
