import assert from 'node:assert/strict'
import { test } from 'node:test'

import { connection, SettingError } from '../connection.js'

const of = (url) => connection({ DATABASE_URL: url })
const PLAIN = 'postgresql://user:p%40ss@db.example:6543/name'

test('whom to reach, without the password', () => {
  assert.deepEqual(of(PLAIN).target, { host: 'db.example', port: 6543, database: 'name', user: 'user' })
})

for (const url of [
  'postgresql://user@localhost/name?host=/run/postgres',
  'postgresql://user:p@%2Frun%2Fpostgres/name?connection_limit=5',
]) {
  test(`a Unix socket: ${url}`, () => {
    const { target } = of(url)
    assert.deepEqual(target, { host: '/run/postgres', port: 5432, database: 'name', user: 'user' })
  })
}

test("the pool is as large and as patient as Prisma's parameters say", () => {
  const { pool } = of(`${PLAIN}?connection_limit=7&pool_timeout=2.5&max_idle_connection_lifetime=60&socket_timeout=9`)
  assert.deepEqual(
    [pool.max, pool.connectionTimeoutMillis, pool.idleTimeoutMillis, pool.query_timeout],
    [7, 2500, 60_000, 9000],
  )
})

test('without them it is of ten, and waits ten seconds', () => {
  const { pool } = of(PLAIN)
  assert.deepEqual([pool.max, pool.connectionTimeoutMillis, pool.query_timeout], [10, 10_000, undefined])
})

test('times are in UTC, and tables in the schema', () => {
  assert.equal(of(PLAIN).schema, 'public')
  const { pool, schema } = of(`${PLAIN}?schema=my%20tables&options=-c%20geqo%3Doff`)
  assert.equal(schema, 'my tables')
  assert.equal(pool.options, '-c geqo=off -c TimeZone=UTC -c search_path="my\\ tables"')
})

test('a connection is encrypted as libpq would have it', () => {
  assert.match(String(of(`${PLAIN}?sslmode=require`).pool.connectionString), /sslmode=require&uselibpqcompat=true/)
})

for (const [name, url] of [
  ['none', undefined],
  ['an empty one', ''],
  ['no address', 'secret'],
]) {
  test(`${name} is refused without being quoted`, () => {
    assert.throws(
      () => of(url),
      (error) => error instanceof SettingError && !error.message.includes('secret'),
    )
  })
}
