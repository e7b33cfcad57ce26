//! Filling the next packet: acknowledgement, control, then the channels' datums in the scheduler's order.
//!
//! Not inside: sending. A packet that was returned counts as sent; if the driver drops it, that is loss.

use core::{net::SocketAddr, time::Duration};

use super::{BASE_PACKET_BYTES, CloseCode, DatumSource, Lifecycle, MIN_PACKET_BYTES, Session, SessionEvent};
use crate::{
    channel::{BlockedFrame, Packing, SentFrame, SentLog, Stop},
    mutate,
    time::Instant,
    wire::{
        frames::{Out, PingFrame, PositionFrame},
        header::{HEADER_BYTES, TAG_BYTES},
    },
};

/// With more ranges than this an acknowledgement asks to be acknowledged now and then, so that old ranges can
/// go.
const TRIM_RANGES: usize = 8;
/// It asks at most this often (and once per round trip): a hundred small packets a second at the worst.
const TRIM_INTERVAL: Duration = Duration::from_millis(10);
/// Control frames may exceed the congestion window by this many packets: a CREDIT must not wait for data that
/// itself waits for credit.
const CONTROL_ALLOWANCE_PACKETS: u64 = 2;
/// A packet with a PATH_CHALLENGE.
pub(super) const CHALLENGE_BYTES: usize = HEADER_BYTES + size_of::<PingFrame>() + TAG_BYTES;
/// Lower bound of `max_frames_in_flight`.
const MIN_FRAMES_IN_FLIGHT: usize = 16;

/// A packet number is left out after one packet in so many, which a peer can't know before it has received
/// that packet. It shows who acknowledges what did not arrive (RFC 9000, 21.4).
const SKIP_ONE_IN: u16 = 1_024;

/// What may go into the next packet.
#[derive(Clone, Copy)]
struct Allowed {
    control: bool,
    data: bool,
    /// The packet leaves even if the window is full, and asks for an acknowledgement.
    probe: bool,
}

/// What recovery records of a packet that asks for an acknowledgement.
struct Tracked {
    /// How many frames were recorded for it.
    frames: usize,
    /// The largest packet number that it acknowledges; 0 when it has no ACK frame.
    acked_to: u64,
    /// It tries a size.
    path_probe: bool,
}

impl Session {
    /// Writes one sealed packet to the start of `buf` and returns its length in bytes; `None` when there is
    /// nothing to send now. The packet is at most as long as `buf` and `max_packet_bytes`; a `buf` below
    /// [`MIN_PACKET_BYTES`] gets none. Call it until it returns `None`, after events were polled.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        buf: &mut [u8],
        source: &mut impl DatumSource,
    ) -> Option<usize> {
        self.advance_clock(now);
        let limit = buf.len().min(self.path.packet_bytes());
        if limit < MIN_PACKET_BYTES || self.lifecycle == Lifecycle::Closed {
            return None;
        }
        if !self.is_open() {
            return self.transmit_close(&mut buf[..limit]);
        }
        if let Some(size) = self.path_probe_due(buf.len()) {
            return self.transmit_path_probe(&mut buf[..size]);
        }
        let buf = &mut buf[..limit];
        let allowed = self.allowed(limit);
        let ack_due = self.acks.is_due();
        let control = allowed.control && self.has_control();
        let data = allowed.data && !self.drr.is_empty() && self.closing_at.is_none();
        if !ack_due && !control && !data && !allowed.probe && !self.owes_answer() {
            return None;
        }
        let mut out = Out::new(&mut buf[HEADER_BYTES..limit - TAG_BYTES]);
        let frames_before = self.recovery.frames().len();
        let waiting = self.acks.is_waiting();
        let acks = if waiting { out.put_ack(0, self.acks.delay_ns(self.now), self.acks.ranges()) } else { 0 };
        let acked_to = self.acks.known_to(acks);
        let only_ack = out.written();
        if let Some(token) = self.pong
            && out.put_pong(token)
        {
            self.pong = None;
        }
        if let Some(token) = self.path_response
            && out.put_path_response(token)
        {
            self.path_response = None;
        }
        if control {
            self.pack_control(&mut out);
        }
        let full = data && self.pack_channels(&mut out, source);
        self.pack_ping(&mut out, allowed.probe, acked_to > 0);
        if self.lifecycle == Lifecycle::Closed || out.written() == 0 {
            return None;
        }
        if out.written() == only_ack && acks > 0 && !ack_due && !full && !out.is_eliciting() {
            // Nothing was found to send, and the acknowledgement can wait.
            return None;
        }
        let (bytes, eliciting) = (out.written(), out.is_eliciting());
        let frames = self.recovery.frames().len() - frames_before;
        self.seal(buf, bytes, eliciting.then_some(Tracked { frames, acked_to, path_probe: false }), acks)
    }

    /// `acks`: ranges in the ACK frame of the packet; 0 without one.
    fn seal(&mut self, buf: &mut [u8], bytes: usize, tracked: Option<Tracked>, acks: usize) -> Option<usize> {
        let Ok(sealed) = self.keys.sealer.seal(self.now, self.remote, buf, bytes) else {
            self.terminate(CloseCode::KEY_EXHAUSTED, false);
            return None;
        };
        self.stats.packets_sent += 1;
        self.stats.bytes_sent += sealed.bytes as u64;
        // The tag is as good as random.
        if let [.., low, high] = buf[..sealed.bytes]
            && u16::from_le_bytes([low, high]).is_multiple_of(SKIP_ONE_IN)
        {
            self.recovery.handle_skipped(self.keys.sealer.next_number());
            self.keys.sealer.skip();
        }
        if acks > 0 {
            self.acks.handle_sent(acks);
            self.stats.acks_sent += 1;
        }
        if let Some(Tracked { frames, acked_to, path_probe }) = tracked {
            // A large probe may not keep data back for a round trip.
            let charge = if path_probe { sealed.bytes.min(BASE_PACKET_BYTES) } else { sealed.bytes };
            self.recovery.handle_sent(self.now, sealed.number, charge, frames, acked_to, path_probe);
            self.pacer.handle_sent(charge as u64);
            self.liveness.handle_sent(self.now);
        } else if acks > 0 {
            self.recovery.handle_untracked(self.now, sealed.number);
        }
        self.request_key_if_due();
        Some(sealed.bytes)
    }

    const fn owes_answer(&self) -> bool {
        self.pong.is_some() || self.path_response.is_some()
    }

    /// Writes one sealed packet for another address than [`Session::peer_address`], which asks whether the
    /// peer is there; `None` when there is none to send now. To be called where `poll_transmit` is, once
    /// `set_peer_address` was; a `buf` below [`MIN_PACKET_BYTES`] gets none.
    pub fn poll_path_transmit(&mut self, now: Instant, buf: &mut [u8]) -> Option<(SocketAddr, usize)> {
        self.advance_clock(now);
        if !self.is_open() || buf.len() < MIN_PACKET_BYTES {
            return None;
        }
        let to = self.address.due(self.now, CHALLENGE_BYTES as u64)?;
        let buf = &mut buf[..CHALLENGE_BYTES];
        let token = self.address.token(self.keys.sealer.next_number());
        let mut out = Out::new(&mut buf[HEADER_BYTES..CHALLENGE_BYTES - TAG_BYTES]);
        out.put_path_challenge(token);
        let bytes = out.written();
        let sent = self.seal(buf, bytes, None, 0)?;
        self.address.handle_sent(self.now, token, sent as u64, self.recovery.timeout());
        Some((to, sent))
    }

    /// The size of a probe for a larger packet that is to leave now. Only a session that sends datums
    /// searches.
    fn path_probe_due(&mut self, room: usize) -> Option<usize> {
        let idle = !self.confirmed || self.tx_channels.len() == 0 || self.recovery.probe_count > 0;
        if idle
            || self.recovery.packets() >= self.config.limits.max_packets_in_flight
            || self.recovery.in_flight() >= self.controller.window()
        {
            return None;
        }
        self.path.due(self.now).filter(|size| *size <= room)
    }

    /// Writes a PING that fills `buf`.
    fn transmit_path_probe(&mut self, buf: &mut [u8]) -> Option<usize> {
        let end = buf.len() - TAG_BYTES;
        let mut out = Out::new(&mut buf[HEADER_BYTES..end]);
        out.put_ping(self.keys.sealer.next_number());
        out.put_padding();
        let (size, bytes) = (buf.len(), end - HEADER_BYTES);
        let number = self.keys.sealer.next_number();
        let sent = self.seal(buf, bytes, Some(Tracked { frames: 0, acked_to: 0, path_probe: true }), 0)?;
        self.path.handle_sent(number, size);
        self.stats.pings_sent += 1;
        Some(sent)
    }

    fn allowed(&mut self, limit: usize) -> Allowed {
        if self.recovery.probes_due > 0 {
            // At the smallest size the probe is a PING alone. Its acknowledgement tells a path that carries
            // less from a silent peer, and what is lost on such a path is given up.
            let whole = mutate!(!self.path.is_smallest(), "probe-as-large-as-data" => true);
            return Allowed { control: whole, data: whole, probe: true };
        }
        let limits = &self.config.limits;
        let room = self.recovery.packets() < limits.max_packets_in_flight;
        let (in_flight, window) = (self.recovery.in_flight(), self.controller.window());
        let allowance = CONTROL_ALLOWANCE_PACKETS * limit as u64;
        let mut data = room && in_flight < window;
        self.paced_at = None;
        if data
            && !self.drr.is_empty()
            && let Err(again) = self.pacer.check(self.now)
        {
            self.paced_at = Some(again);
            data = false;
        }
        Allowed { control: room && in_flight < window.saturating_add(allowance), data, probe: false }
    }

    fn has_control(&self) -> bool {
        !self.credits.is_empty() || !self.blocked.is_empty() || self.ping_due || self.control_tx.is_pending()
    }

    /// Most frames that packets in flight may have; new data stops at half of it, the rest is for resends.
    fn max_frames(&self) -> usize {
        2 * self.config.limits.max_frames_in_flight.max(MIN_FRAMES_IN_FLIGHT)
    }

    fn pack_control(&mut self, out: &mut Out<'_>) {
        let max = self.max_frames();
        while self.recovery.frames().len() < max {
            let Some(slot) = self.credits.front().copied() else { break };
            if let Some(channel) = self.rx_channels.at(slot).filter(|channel| channel.queued) {
                // Checked before `raise_credit`, which counts its result as sent.
                if out.room() < size_of::<PositionFrame>() {
                    return;
                }
                channel.queued = false;
                let label = channel.label();
                let (seq, bytes) = channel.raise_credit();
                out.put_credit(label.wire(), seq, bytes);
                self.recovery.frames().push_back(SentFrame::Credit { label });
            }
            self.credits.pop_front();
        }
        while self.recovery.frames().len() < max {
            let Some(slot) = self.blocked.front().copied() else { break };
            if let Some(channel) = self.tx_channels.at(slot).filter(|channel| channel.queued) {
                if let Some(frame) = channel.blocked_due {
                    let (seq, offset) = channel.position();
                    let label = channel.label();
                    if !out.put_blocked(label.wire(), seq, offset, frame == BlockedFrame::Probe) {
                        return;
                    }
                    channel.blocked_due = None;
                    self.recovery.frames().push_back(SentFrame::Blocked { label });
                }
                channel.queued = false;
            }
            self.blocked.pop_front();
        }
        while self.recovery.frames().len() < max
            && let Some((offset, len)) = self.control_tx.pack(out)
        {
            self.recovery.frames().push_back(SentFrame::Control { offset, len });
        }
    }

    /// Lets channels fill the packet in the order of the scheduler. Returns whether it is full.
    fn pack_channels(&mut self, out: &mut Out<'_>, source: &mut impl DatumSource) -> bool {
        let number = self.keys.sealer.next_number();
        let fresh_room = out.room() + out.written();
        let max = self.max_frames();
        let mut passes = 0;
        let mut packet = HEADER_BYTES + TAG_BYTES;
        while let Some((slot, deficit)) = self.drr.poll_turn() {
            let Some(channel) = self.tx_channels.at(slot) else {
                self.drr.retire();
                continue;
            };
            let label = channel.label();
            if !channel.wants_turn() {
                // Its last turn ended exactly with its last datum, or with its credit.
                let lacks_credit = channel.lacks_credit();
                self.drr.retire();
                self.note_crowded(slot, Stop::Idle);
                if lacks_credit {
                    self.block_channel(label);
                }
                continue;
            }
            if let Err(at) = channel.begin_turn(self.now, source) {
                self.drr.retire();
                self.egress.push(at, slot);
                if self.large.first() == Some(slot) {
                    self.wake_crowded();
                }
                continue;
            }
            let (entries, released, written) = (channel.resend_entries(), channel.released(), out.written());
            let (large, large_room) = (channel.large_bytes(), self.large.room(slot));
            let max_new = (max / 2).saturating_sub(self.resend_entries);
            let log = SentLog { frames: self.recovery.frames(), max, max_new };
            let now = self.now;
            let stop = channel.pack(&mut Packing { out, source, log, now, fresh_room, large_room, deficit });
            self.resend_entries = self.resend_entries + channel.resend_entries() - entries;
            self.large.change(large, channel.large_bytes());
            let packed = out.written() > written;
            let mut sent = out.written() - written;
            if packed {
                channel.last_packet = number;
                sent += core::mem::take(&mut packet);
            }
            channel.end_packet(now, sent as u64, !matches!(stop, Stop::Full | Stop::LogFull), source);
            if channel.released() > released && !core::mem::replace(&mut channel.released_event, true) {
                self.released.push_back(slot);
            }
            let lacks_credit = channel.lacks_credit();
            let ends = channel.end().is_some();
            self.note_crowded(slot, stop);
            match stop {
                Stop::Full => return true,
                Stop::Turn => self.drr.rotate(),
                Stop::LogFull => {
                    // Other channels may have something to send again, for which there is room.
                    self.drr.rotate();
                    passes += 1;
                    if passes > self.drr.len() {
                        return false;
                    }
                }
                Stop::Crowded => self.drr.retire(),
                Stop::Idle => {
                    self.drr.retire();
                    if lacks_credit {
                        self.block_channel(label);
                    }
                }
                Stop::Broken(code) => {
                    self.drr.retire();
                    self.reset_channel(label, code);
                }
            }
            if ends {
                self.send_fin_if_due(label, packed);
            }
        }
        false
    }

    /// Adds a PING when the packet has to ask for an acknowledgement and nothing else in it does. `covers`:
    /// once the packet is acknowledged, ranges can be forgotten. An ACK frame that others follow covers none.
    fn pack_ping(&mut self, out: &mut Out<'_>, probe: bool, covers: bool) {
        let trim = mutate!(covers, "trim-covers-nothing" => self.acks.is_waiting())
            && self.acks.fragmentation() > TRIM_RANGES
            && self.now - self.last_trim >= TRIM_INTERVAL.max(self.recovery.rtt.smoothed());
        if trim {
            self.last_trim = self.now;
        }
        if (probe || self.ping_due || trim)
            && !out.is_eliciting()
            && out.put_ping(self.keys.sealer.next_number())
        {
            self.stats.pings_sent += 1;
        }
        if out.is_eliciting() {
            self.ping_due = false;
        }
    }

    fn transmit_close(&mut self, buf: &mut [u8]) -> Option<usize> {
        let code = self.take_close()?;
        let end = buf.len() - TAG_BYTES;
        let mut out = Out::new(&mut buf[HEADER_BYTES..end]);
        out.put_close(code);
        let bytes = out.written();
        if let Ok(sealed) = self.keys.sealer.seal(self.now, self.remote, buf, bytes) {
            self.stats.packets_sent += 1;
            self.stats.bytes_sent += sealed.bytes as u64;
            return Some(sealed.bytes);
        }
        // Without a key no CLOSE can be sent.
        self.lifecycle = Lifecycle::Closed;
        self.events.push_back(SessionEvent::Closed { code, by_peer: false });
        None
    }
}
