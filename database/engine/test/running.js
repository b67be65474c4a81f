/** An engine to ask, over tables of its own in the database that DATABASE_URL names. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'

import pg from 'pg'

const path = (name) => fileURLToPath(new URL(name, import.meta.url))
export const TOKEN = 'the token of the tests'

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

/** The program, as prisma-client-py starts it. */
export class Running {
  /** @param {string} url of the database @param {NodeJS.ProcessEnv} [environment] */
  static async start(url, environment = {}) {
    const port = await freePort()
    const running = new Running(port, url, environment)
    while (!(await running.isReady())) if (running.process.exitCode !== null) throw new Error(running.printed)
    return running
  }

  constructor(port, url, environment) {
    this.port = port
    this.printed = ''
    this.process = spawn(path('../query-engine'), ['-p', `${port}`, '--enable-metrics', '--enable-raw-queries'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        LLMUX_NODE: process.execPath,
        LLMUX_ENGINE_TOKEN: TOKEN,
        PRISMA_DML_PATH: path('schema.prisma'),
        DATABASE_URL: url,
        ...environment,
      },
    })
    for (const stream of [this.process.stdout, this.process.stderr]) stream.on('data', (text) => (this.printed += text))
  }

  async isReady() {
    return this.request('GET', '/status').then(
      ({ ok }) => ok,
      () => false,
    )
  }

  /** @param {string} method @param {string} where @param {unknown} [body] @param {Record<string, string>} [headers] */
  request(method, where, body, headers = {}) {
    return fetch(`http://127.0.0.1:${this.port}${where}`, {
      method,
      body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
      headers: { Authorization: `Bearer ${TOKEN}`, ...headers },
    })
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
