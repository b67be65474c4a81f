/** From DATABASE_URL, with the parameters that Prisma's connection strings know, to pg's settings. */

import pg from 'pg'

/**
 * @typedef {object} Target what messages may name of a database
 * @property {string} host a name, an address, or the folder of a Unix socket
 * @property {number} port
 * @property {string} database
 * @property {string} user
 *
 * @typedef {object} Connection
 * @property {import('pg').PoolConfig & { max: number, connectionTimeoutMillis: number }} pool
 * @property {Target} target
 * @property {string} schema where the tables are
 */

export class SettingError extends Error {}

/** Prisma's own defaults, but for the first, which is LiteLLM's. Durations in seconds. */
const DEFAULTS = { connection_limit: 10, pool_timeout: 10, max_idle_connection_lifetime: 300, socket_timeout: 0 }

/** Parameters that mean nothing here: no statement is ever prepared under a name. */
const WITHOUT_MEANING = ['pgbouncer', 'statement_cache_size', 'connect_timeout', 'sslaccept']

/**
 * @param {NodeJS.ProcessEnv} environment with DATABASE_URL
 * @returns {Connection}
 */
export function connection(environment) {
  const given = environment.DATABASE_URL
  if (!given || !URL.canParse(given)) throw new SettingError('DATABASE_URL is not a connection string')
  const url = new URL(given)
  const take = (name) => {
    const value = url.searchParams.get(name)
    url.searchParams.delete(name)
    return value
  }
  const seconds = (name) => Number(take(name) ?? DEFAULTS[name])

  const max = seconds('connection_limit')
  const wait_s = seconds('pool_timeout')
  const idle_s = seconds('max_idle_connection_lifetime')
  const socket_s = seconds('socket_timeout')
  const schema = take('schema') ?? 'public'
  const options = take('options')
  WITHOUT_MEANING.forEach(take)
  // Prisma encrypts where it is told to, and checks certificates only where it is given one to check against, as libpq does.
  if (url.searchParams.has('sslmode')) url.searchParams.set('uselibpqcompat', 'true')

  const pool = {
    connectionString: url.href,
    // Timestamps without a zone are in UTC, to Prisma and in every default of the tables.
    options: `${options ?? ''} -c TimeZone=UTC -c search_path=${JSON.stringify(schema).replaceAll(' ', '\\ ')}`.trim(),
    max,
    connectionTimeoutMillis: wait_s * 1000,
    idleTimeoutMillis: idle_s * 1000,
    query_timeout: socket_s * 1000 || undefined,
    keepAlive: true,
  }
  const { host, port, database, user } = new pg.Client(pool)
  return { pool, schema, target: { host, port, database: database ?? '', user: user ?? '' } }
}
