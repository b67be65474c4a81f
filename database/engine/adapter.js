/** PostgreSQL, through pg, as Prisma's engine wants a driver. */

import { err, ok } from '@prisma/driver-adapter-utils'
import pg from 'pg'

import { column } from './columns.js'
import * as outage from './outage.js'

/**
 * @template T
 * @typedef {{ ok: true, value: T } | { ok: false, error: import('./outage.js').DriverError }} Outcome
 */

/**
 * @typedef {{ sql: string, args: unknown[] }} Query
 * @typedef {import('pg').QueryArrayResult} Rows
 * @typedef {import('./connection.js').Connection} Connection
 */

const READ = { getTypeParser: (/** @type {number} */ id) => column(id).parse }

/** A connection is lost with an error that PostgreSQL did not send, or after which it hangs up. */
const isLost = (error) => !error.severity || error.severity === 'FATAL' || error.code?.startsWith('57P')

/** Malformed, or out of range: PostgreSQL's message quotes the value. */
const QUOTING = new Set(['22P02', '22003', '22007', '22008'])

/** In a list, pg takes only Buffers for bytes. */
const argument = (value) =>
  Array.isArray(value)
    ? value.map((each) =>
        ArrayBuffer.isView(each) ? Buffer.from(each.buffer, each.byteOffset, each.byteLength) : each,
      )
    : value

/** What the engine may ask of a connection, or of a pool of them. Where it is asked is left to who extends this. */
class Queryable {
  provider = /** @type {const} */ ('postgres')
  adapterName = 'pg'

  /** @param {Connection} connection */
  constructor(connection) {
    this.connection = connection
  }

  /**
   * @abstract
   * @param {Query} _query
   * @returns {Promise<Outcome<Rows>>}
   */
  run(_query) {
    throw new TypeError('abstract')
  }

  /** @param {Query} query */
  async queryRaw(query) {
    const ran = await this.run(query)
    if (!ran.ok) return err(ran.error)
    const { fields, rows } = ran.value
    return ok({
      columnNames: fields.map(({ name }) => name),
      columnTypes: fields.map(({ dataTypeID }) => column(dataTypeID).type),
      rows,
    })
  }

  /** @param {Query} query */
  async executeRaw(query) {
    const ran = await this.run(query)
    return ran.ok ? ok(ran.value.rowCount ?? 0) : err(ran.error)
  }

  /**
   * @param {import('pg').PoolClient} client
   * @param {Query} query
   * @returns {Promise<Outcome<Rows>>}
   */
  async send(client, { sql, args }) {
    try {
      const value = await client.query({ text: sql, values: args.map(argument), rowMode: 'array', types: READ })
      return { ok: true, value }
    } catch (error) {
      return { ok: false, error: this.#explain(error) }
    }
  }

  /**
   * @param {any} error pg's
   * @returns {import('./outage.js').DriverError} without the values that PostgreSQL quotes
   */
  #explain(error) {
    if (error.message === 'Query read timeout') return outage.slow(Number(this.connection.pool.query_timeout) / 1000)
    if (isLost(error)) return outage.closed()
    const { code, severity, column, hint } = error
    const message = QUOTING.has(code) ? error.message.replace(/".*"/s, '"…"') : error.message
    // From this one the engine reads which columns are unique.
    const detail = code === '23505' ? error.detail?.replace(/\)=\(.*\)/s, ')=()') : undefined
    return { kind: 'Postgres', code, severity, message, detail, column, hint }
  }
}

/** Queries outside a transaction, each on whichever connection is free. */
export class Adapter extends Queryable {
  #pool

  /** @param {Connection} connection */
  constructor(connection) {
    super(connection)
    this.#pool = new pg.Pool(connection.pool)
    // A connection that is lost while nobody uses it is no error: the pool opens another.
    this.#pool.on('error', () => {})
    this.#pool.on('connect', (client) => client.on('error', () => {}))
  }

  getConnectionInfo() {
    return ok({ schemaName: this.connection.schema })
  }

  async startTransaction() {
    const connected = await this.#connect()
    return connected.ok ? ok(new Transaction(this.connection, connected.value)) : err(connected.error)
  }

  /** @override @param {Query} query @returns {Promise<Outcome<Rows>>} */
  async run(query) {
    const connected = await this.#connect()
    if (!connected.ok) return connected
    const client = connected.value
    const result = await this.send(client, query)
    client.release(!result.ok && result.error.severity === 'FATAL')
    return result
  }

  /** Ends every connection, once the queries that run have ended. */
  async close() {
    await this.#pool.end()
  }

  /** @returns {Promise<Outcome<import('pg').PoolClient>>} */
  async #connect() {
    const { max, connectionTimeoutMillis } = this.connection.pool
    try {
      return { ok: true, value: await this.#pool.connect() }
    } catch (failure) {
      const error = /** @type {NodeJS.ErrnoException} */ (failure)
      const waited = error.message === 'timeout exceeded when trying to connect' && this.#pool.totalCount >= max
      if (waited) return { ok: false, error: outage.exhausted(max, connectionTimeoutMillis / 1000) }
      return { ok: false, error: outage.refused(error, this.connection.target) }
    }
  }
}

/** The queries of one transaction, on the connection that it keeps. The engine sends BEGIN, COMMIT and ROLLBACK itself. */
class Transaction extends Queryable {
  options = { usePhantomQuery: false }
  /** @type {import('pg').PoolClient | undefined} */
  #client

  /**
   * @param {Connection} connection
   * @param {import('pg').PoolClient} client
   */
  constructor(connection, client) {
    super(connection)
    this.#client = client
  }

  /** @override @param {Query} query @returns {Promise<Outcome<Rows>>} */
  async run(query) {
    if (!this.#client) return { ok: false, error: outage.closed() }
    const result = await this.send(this.#client, query)
    // The engine neither commits nor rolls back what could not begin, could not end, or lost its connection.
    if (!result.ok && (result.error.severity === 'FATAL' || /^(BEGIN|COMMIT|ROLLBACK)/.test(query.sql)))
      this.#release(true)
    return result
  }

  async commit() {
    this.#release(false)
    return ok(undefined)
  }

  async rollback() {
    this.#release(false)
    return ok(undefined)
  }

  /** @param {boolean} lost */
  #release(lost) {
    this.#client?.release(lost)
    this.#client = undefined
  }
}
