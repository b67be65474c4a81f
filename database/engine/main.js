/**
 * The program: `node main.js SOCKET SCHEMA` answers until it is told to stop, or until standard input ends.
 *
 * SOCKET is the path of a Unix socket to make, or the number of one that is open here and listens. SCHEMA is schema.prisma.
 */

import { readFile } from 'node:fs/promises'

import { Adapter } from './adapter.js'
import { connection, SettingError } from './connection.js'
import { Engine } from './engine.js'
import { fieldTypes } from './schema.js'
import { listen, place } from './server.js'
import { Transactions } from './transaction.js'

const DRAIN_MS = 3000

/** @param {string} reason why no engine can run, without a secret in it */
function fail(reason) {
  console.error(`query-engine: ${reason}`)
  process.exit(1)
}

async function main() {
  const [socket, path] = process.argv.slice(2)
  process.title = 'query-engine'
  process.umask(0o177)
  const schema = await readFile(path, 'utf8')
  const adapter = new Adapter(connection(process.env))
  const engine = await Engine.start(schema, adapter)
  const server = await listen(/^\d+$/.test(socket) ? { fd: Number(socket) } : { path: socket }, {
    engine,
    transactions: new Transactions(engine),
    models: await fieldTypes(schema),
  })

  let stopping = false
  const stop = async () => {
    if (stopping) return
    stopping = true
    setTimeout(() => process.exit(0), DRAIN_MS).unref()
    await new Promise((closed) => server.close(closed))
    await adapter.close()
    process.exit(0)
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
  // Its other end is held by whoever started this, and closed by the kernel however that ends.
  process.stdin.on('end', stop).resume()
}

// After a panic the engine's memory cannot be trusted, and who awaited the query would wait for ever: the next engine
// is started when this one ends. Of an error only the place is printed: its message may hold values.
process.on('uncaughtException', (error) => fail(error instanceof SettingError ? error.message : place(error)))

await main()
