// A phone in a web page: JsSIP, and what a test asks of it. `phone` is all that the test sees; what it calls returns promises.
import JsSIP from 'jssip';

const CAMERA = { width: 320, height: 240, frameRate: 15 };
const sessions = [];      // newest last
let agent;

const constraints = (video) => ({ audio: true, video: video ? CAMERA : false });
const last = () => sessions[sessions.length - 1];

// The first of these events; a rejection where it is `failed`.
const event = (source, wanted, failed) => new Promise((resolve, reject) => {
  source.once(wanted, resolve);
  source.once(failed, (data) => reject(new Error(`${failed}: ${data.cause}`)));
});

// Resolves once the session has been told to end, by either side.
const ending = (session) => new Promise((resolve) => {
  session.once('ended', (data) => resolve(data.cause));
  session.once('failed', (data) => resolve(data.cause));
});

function keep(session) {
  session.ending = ending(session);
  session.established = event(session, 'confirmed', 'failed');
  session.established.catch(() => {});       // whoever waits for it is told
  session.on('refer', ({ accept }) => accept(() => {}, { mediaConstraints: constraints(true) }));
  sessions.push(session);
}

globalThis.phone = {
  // Registers; `server` is a WebSocket's URL.
  async register(server, uri) {
    agent = new JsSIP.UA({ sockets: [new JsSIP.WebSocketInterface(server)], uri, register_expires: 60 });
    agent.on('newRTCSession', ({ session }) => keep(session));
    const registered = event(agent, 'registered', 'registrationFailed');
    agent.start();
    await registered;
  },

  // The address of this instance alone, from the registrar.
  gruu: () => agent.contact.pub_gruu,

  // Resolves once the call stands.
  async call(uri, video) {
    await agent.call(uri, { mediaConstraints: constraints(video) }).established;
  },

  ringing: () => Boolean(last()?.isInProgress() && last().direction === 'incoming'),

  async answer(video) {
    last().answer({ mediaConstraints: constraints(video) });
    await last().established;
  },

  hold: () => new Promise((done, refused) => last().hold({}, done) || refused(new Error('may not hold now'))),
  resume: () => new Promise((done, refused) => last().unhold({}, done) || refused(new Error('may not resume now'))),

  // Resolves once the one it talks to has called there.
  transfer: (uri) => new Promise((done, refused) => {
    const failed = () => refused(new Error('not transferred'));
    last().refer(uri, { eventHandlers: { accepted: () => done(), requestFailed: failed, failed } });
  }),

  async hangUp() {
    const session = last();
    session.terminate();
    await session.ending;
  },

  ended: () => last().ending,

  // Packets by kind and direction.
  async counts() {
    const found = { audio_sent: 0, audio_received: 0, video_sent: 0, video_received: 0 };
    for (const report of (await last().connection.getStats()).values()) {
      if (report.type === 'outbound-rtp') { found[`${report.kind}_sent`] += report.packetsSent; }
      if (report.type === 'inbound-rtp') { found[`${report.kind}_received`] += report.packetsReceived; }
    }
    return found;
  },
};
