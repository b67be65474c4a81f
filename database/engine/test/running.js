/** An engine to ask, over tables of its own in the database that DATABASE_URL names. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile } from 'node:fs/promises'
import { request } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

import pg from 'pg'

const path = (name) => fileURLToPath(new URL(name, import.meta.url))
export const MAIN = path('../main.js')
/** @returns {string} */
export function databaseUrl() {
  const url = process.env.DATABASE_URL
  if (!url) throw new Error('these tests need a PostgreSQL in which they may create schemas: set DATABASE_URL')
  return url
}

/** @returns {Promise<number>} a port that was free */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  server.close()
  await once(server, 'close')
  return port
}

/** @param {string} schema @returns {Promise<string>} the connection string of a fresh schema with the tables */
export async function tables(schema) {
  const client = new pg.Client({ connectionString: databaseUrl() })
  await client.connect()
  await client.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE; CREATE SCHEMA ${schema}; SET search_path TO ${schema}`)
  await client.query(await readFile(path('tables.sql'), 'utf8'))
  await client.end()
  const url = new URL(databaseUrl())
  url.searchParams.set('schema', schema)
  return url.href
}

/** @returns {Promise<string>} the path of a socket that nobody has */
export const freeSocket = async () => join(await mkdtemp(join(tmpdir(), 'query-engine-')), 'socket')

/**
 * A request through a Unix socket.
 *
 * @param {string} socketPath
 * @param {import('node:http').RequestOptions} options
 * @param {string | AsyncIterable<Uint8Array>} [body]
 */
export async function ask(socketPath, options, body = '') {
  const sent = request({ socketPath, ...options })
  const answered = once(sent, 'response')
  pipeline(typeof body === 'string' ? [body] : body, sent).catch(() => {})
  const [response] = await answered
  const status = /** @type {number} */ (response.statusCode)
  return { status, text: () => text(response), json: async () => JSON.parse(await text(response)) }
}

/** The program, as it is started for LiteLLM. */
export class Running {
  /** @param {string} url of the database @param {{ schema?: string }} [given] */
  static async start(url, { schema = path('schema.prisma') } = {}) {
    const running = new Running(await freeSocket(), url, schema)
    while (!(await running.isReady())) {
      if (running.process.exitCode !== null) throw new Error(running.printed)
      await delay(5)
    }
    return running
  }

  constructor(socket, url, schema) {
    this.socket = socket
    this.printed = ''
    this.process = spawn(process.execPath, [MAIN, socket, schema], {
      stdio: 'pipe',
      env: { ...process.env, DATABASE_URL: url },
    })
    for (const stream of [this.process.stdout, this.process.stderr]) stream.on('data', (text) => (this.printed += text))
  }

  async isReady() {
    return this.request('GET', '/status').then(
      ({ status }) => status === 200,
      () => false,
    )
  }

  /** @param {string} method @param {string} path @param {unknown} [body] @param {Record<string, string>} [headers] */
  request(method, path, body, headers = {}) {
    const sent = typeof body === 'string' ? body : JSON.stringify(body)
    return ask(this.socket, { method, path, headers }, sent)
  }

  /** @param {string} query GraphQL @param {string} [transaction] @returns {Promise<any>} the answer */
  async answer(query, transaction) {
    const headers = transaction ? { 'X-transaction-id': transaction } : {}
    const body = { query, variables: {}, operation_name: 'query' }
    return (await this.request('POST', '/', body, headers)).json()
  }

  /** @param {string} query GraphQL without its braces, its field called result @param {string} [transaction] */
  async result(query, transaction) {
    const kind = /^result: (find|count|aggregate|group)/.test(query) ? 'query' : 'mutation'
    const { data, errors } = await this.answer(`${kind} { ${query} }`, transaction)
    if (errors) throw new Error(JSON.stringify(errors))
    return data.result
  }

  /** @param {string} query as for result @returns {Promise<any>} the error that PostgreSQL or Prisma has with it */
  async error(query, transaction) {
    const { data, errors } = await this.answer(`mutation { ${query} }`, transaction)
    if (!errors) throw new Error(`no error, but ${JSON.stringify(data)}`)
    return errors[0].user_facing_error
  }

  /** @param {object[]} queries */
  async batch(queries, transaction = true) {
    const batch = queries.map((query) => ({ query: `mutation { ${query} }`, variables: {} }))
    return (await this.request('POST', '/', { batch, transaction })).json()
  }

  /** @param {string} sql @param {unknown[]} [parameters] */
  async raw(sql, ...parameters) {
    const quoted = JSON.stringify
    return this.result(`result: queryRaw(query: ${quoted(sql)}, parameters: ${quoted(quoted(parameters))})`)
  }

  /** @param {NodeJS.Signals} [signal] @returns {Promise<number | null>} what it exits with */
  async stop(signal = 'SIGTERM') {
    if (this.process.exitCode !== null) return this.process.exitCode
    this.process.kill(signal)
    const [code] = await once(this.process, 'exit')
    return code
  }
}
