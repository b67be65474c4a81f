/** The program: Prisma's query engine as prisma-client-py starts it, as its child, until it or its parent ends. */

import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'

import { Adapter } from './adapter.js'
import { connection, SettingError } from './connection.js'
import { commit, Engine } from './engine.js'
import { fieldTypes } from './schema.js'
import { listen, place } from './server.js'
import { Transactions } from './transaction.js'

const PARENT_WATCH_MS = 500
const DRAIN_MS = 3000

/** @param {string} reason why no engine can run, without a secret in it */
function fail(reason) {
  console.error(`query-engine: ${reason}`)
  process.exit(1)
}

async function main() {
  const { values } = parseArgs({
    options: {
      port: { type: 'string', short: 'p' },
      version: { type: 'boolean' },
      'enable-metrics': { type: 'boolean' },
      'enable-raw-queries': { type: 'boolean' },
    },
  })
  if (values.version) {
    console.log(`query-engine ${await commit()}`)
    return
  }
  const parent = process.ppid
  process.title = 'query-engine'

  const { PRISMA_DML_PATH, LLMUX_ENGINE_TOKEN: token } = process.env
  if (!token) throw new SettingError('LLMUX_ENGINE_TOKEN is not set: there would be nobody to answer to')
  if (!PRISMA_DML_PATH) throw new SettingError('PRISMA_DML_PATH is not set')
  const schema = await readFile(PRISMA_DML_PATH, 'utf8')
  const adapter = new Adapter(connection(process.env))
  const engine = await Engine.start(schema, adapter)
  const server = await listen(Number(values.port), {
    token,
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
  setInterval(() => process.ppid === parent || stop(), PARENT_WATCH_MS).unref()
}

// After a panic the engine's memory cannot be trusted, and who awaited the query would wait for ever: LiteLLM starts the
// next engine when this one ends. Of an error only the place is printed: its message may hold values.
process.on('uncaughtException', (error) => fail(error instanceof SettingError ? error.message : place(error)))

await main()
