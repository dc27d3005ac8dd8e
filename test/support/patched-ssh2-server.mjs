/** A server of the ssh2 that lies beside it, with the hybrid key exchange alone: says its port, echoes, and tells of each key exchange. */
import ssh2 from 'ssh2';

const say = (line) => process.stdout.write(`${line}\n`);
const kex = ['mlkem768x25519-sha256'];
const server = new ssh2.Server(
  { hostKeys: [ssh2.utils.generateKeyPairSync('ed25519').private], algorithms: { kex } },
  (connection) => {
    connection.on('handshake', (negotiated) => say(`keys by ${negotiated.kex}`));
    connection.on('error', (error) => say(error.message));
    connection.on('authentication', (context) => context.accept());
    connection.on('session', (accept) => {
      accept().on('exec', (acceptExec) => {
        const channel = acceptExec();
        channel.pipe(channel, { end: false });
        channel.on('end', () => {
          channel.exit(0);
          channel.end();
        });
      });
    });
  },
);
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const client = new ssh2.Client();
  client.on('handshake', (negotiated) => say(`own client: ${negotiated.kex}`));
  client.on('ready', () => {
    client.end();
    say(`listening on ${port}`);
  });
  client.connect({ port, host: '127.0.0.1', username: 'x', algorithms: { kex } });
});
