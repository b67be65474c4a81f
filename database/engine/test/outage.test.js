import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { after, afterEach, before, test } from 'node:test'

import { databaseUrl, freePort, Running, tables } from './running.js'

/** PostgreSQL behind an address that can be taken away: connections break, and new ones are refused. */
class Line {
  sockets = new Set()

  constructor(port, target) {
    this.port = port
    this.target = target
  }

  async up() {
    this.server = createServer((near) => {
      const far = connect(this.target)
      for (const [socket, other] of [
        [near, far],
        [far, near],
      ]) {
        this.sockets.add(socket)
        socket
          .on('error', () => {})
          .on('close', () => other.destroy())
          .pipe(other)
      }
    }).listen(this.port, '127.0.0.1')
    await once(this.server, 'listening')
  }

  async down() {
    this.server.close()
    for (const socket of this.sockets) socket.destroy()
    this.sockets.clear()
    await once(this.server, 'close')
  }
}

/** @type {Running} */
let engine
/** @type {Line} */
let line
before(async () => {
  const url = new URL(await tables('engine_outage'))
  line = new Line(await freePort(), { host: url.hostname, port: Number(url.port || 5432) })
  await line.up()
  url.host = `127.0.0.1:${line.port}`
  url.searchParams.set('connection_limit', '4')
  engine = await Running.start(url.href)
})
after(async () => {
  await engine.stop()
  await line.down()
})
afterEach(() => assert.equal(engine.printed, ''))

const one = () => engine.raw('SELECT 1 AS x')

/** A connection that broke while nobody used it may be used once before the engine has heard of it. */
async function recovered() {
  while ((await engine.answer('query { result: findManyThing { id } }')).errors);
}

const count = 'result: aggregateThing { _count { _all } }'

test('while PostgreSQL is away every query is P1001, and none waits', async () => {
  await one()
  await line.down()
  const started = performance.now()
  await engine.answer(`query { ${count} }`) // P1017, where the engine has not noticed yet
  for (const query of [
    'result: findManyThing { id }',
    'result: queryRaw(query: "SELECT 1", parameters: "[]")',
    'result: createOneThing(data: {}) { id }',
  ]) {
    const error = await engine.error(query)
    assert.equal(error.error_code, 'P1001')
    assert.match(error.message, /^Can't reach database server at `127\.0\.0\.1:\d+`/)
    assert.equal(error.meta.constructor, Object)
  }
  const { errors } = await (
    await engine.request('POST', '/transaction/start', { max_wait: 2000, timeout: 1000 })
  ).json()
  assert.equal(errors[0].user_facing_error.error_code, 'P1001')
  const batch = await engine.batch([
    'result: createOneThing(data: {}) { id }',
    'result: createOneThing(data: {}) { id }',
  ])
  assert.equal(batch.errors[0].user_facing_error.error_code, 'P1001')
  assert.ok(performance.now() - started < 2000)
  assert.ok(await engine.isReady())
  await line.up()
})

test('and the first query after its return is answered', async () => {
  assert.equal((await one())[0].x.prisma__value, 1)
})

test('a query that it leaves in the middle is P1017, in words that LiteLLM knows', async () => {
  const running = engine.error('result: queryRaw(query: "SELECT pg_sleep(30)::text", parameters: "[]")')
  while (
    (await engine.raw("SELECT count(*)::int AS n FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(30)%'"))[0].n
      .prisma__value === 0
  );
  await line.down()
  const error = await running
  await line.up()
  assert.equal(error.error_code, 'P1017')
  assert.match(error.message, /connection closed/)
  await recovered()
})

test('so is one whose connection PostgreSQL ends', async () => {
  const running = engine.error('result: queryRaw(query: "SELECT pg_sleep(30)::text", parameters: "[]")')
  const end = "SELECT pg_terminate_backend(pid) AS x FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(30)%'"
  while ((await engine.raw(end)).length === 0);
  assert.equal((await running).error_code, 'P1017')
  await recovered()
})

test('a transaction that it leaves is lost, and its connection is not kept', async () => {
  for (let index = 0; index < 8; index += 1) {
    const { id } = await (
      await engine.request('POST', '/transaction/start', { max_wait: 2000, timeout: 60_000 })
    ).json()
    await engine.result('result: createOneThing(data: {}) { id }', id)
    await line.down()
    await line.up()
    await recovered()
    assert.ok((await engine.answer(`query { ${count} }`, id)).errors)
    await engine.request('POST', `/transaction/${id}/rollback`)
  }
  assert.deepEqual(await engine.result(count), { _count: { _all: 0 } })
})

test('two hundred queries over three outages: each is answered, and what was confirmed is there', async () => {
  let confirmed = 0
  const write = async () => {
    const { data } = await engine.answer('mutation { result: createOneThing(data: {}) { id } }')
    if (data) confirmed += 1
  }
  for (let round = 0; round < 3; round += 1) {
    const writes = Array.from({ length: 60 }, write)
    await line.down()
    await Promise.all(writes)
    await line.up()
    await Promise.all(Array.from({ length: 10 }, write))
  }
  const { _count } = await engine.result(count)
  assert.ok(_count._all >= confirmed && confirmed >= 30, `${_count._all} are there, ${confirmed} were confirmed`)
})

test('an engine may start before its database', async () => {
  await line.down()
  const early = await Running.start(`postgresql://nobody:x@127.0.0.1:${line.port}/nothing`)
  assert.equal((await early.error('result: findManyThing { id }')).error_code, 'P1001')
  await early.stop()
  await line.up()
})

for (const [name, change, code] of [
  ['a wrong password', (url) => (url.password = 'wrong'), 'P1000'],
  ['a database that is not there', (url) => (url.pathname = '/nothing'), 'P1003'],
]) {
  test(`${name} is ${code}, and is not printed`, async () => {
    const url = new URL(databaseUrl())
    change(url)
    const wrong = await Running.start(url.href)
    const error = await wrong.error('result: findManyThing { id }')
    assert.equal(error.error_code, code)
    assert.doesNotMatch(JSON.stringify(error) + wrong.printed, /wrong/)
    await wrong.stop()
  })
}
