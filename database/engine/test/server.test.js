import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'

import { ask, freeSocket, MAIN, Running, tables } from './running.js'

/** @type {string} */
let url
/** @type {Running} */
let engine
before(async () => {
  url = await tables('engine_server')
  engine = await Running.start(url)
})
after(() => engine.stop())

test('it is there', async () => {
  assert.deepEqual(await (await engine.request('GET', '/status')).json(), { status: 'ok' })
})

test('its socket is for its user alone', async () => {
  assert.equal((await stat(engine.socket)).mode & 0o777, 0o600)
})

test('what is nowhere is 404', async () => {
  assert.equal((await engine.request('GET', '/nowhere')).status, 404)
  assert.equal((await engine.request('GET', '/')).status, 404)
  assert.equal((await engine.request('GET', '/metrics')).status, 404)
})

test('a body that is not JSON is 400', async () => assert.equal((await engine.request('POST', '/', '{')).status, 400))

test('a body without end is 413', async () => {
  const chunk = new Uint8Array(1024 * 1024).fill(32)
  async function* endless() {
    for (;;) yield chunk
  }
  const { status } = await ask(engine.socket, { method: 'POST', path: '/' }, endless())
  assert.equal(status, 413)
  assert.ok(await engine.isReady())
})

test('who hangs up in the middle of a body ends nothing', async () => {
  const socket = connect(engine.socket)
  await once(socket, 'connect')
  socket.write(
    'POST / HTTP/1.1\r\nHost: query-engine\r\nContent-Length: 100\r\n\r\n{',
  )
  socket.destroy()
  assert.ok(await engine.isReady())
})

for (const [name, query] of [
  ['no GraphQL', 'secret {{{'],
  ['two operations', 'query { a } query { b }'],
  ['two fields', 'query { result: findManyThing { id } other: findManyThing { id } }'],
  ['no operation of Prisma', 'query { result: dropThing { id } }'],
  ['no model', 'query { result: findManySecret { id } }'],
  ['a variable', 'query { result: findManyThing(take: $x) { id } }'],
  ['a fragment', 'query { result: findManyThing { ...secret } }'],
  [
    'nesting without end',
    `query { result: findManyThing(where: ${'{ NOT: '.repeat(20_000)}{}${'}'.repeat(20_000)}) { id } }`,
  ],
]) {
  test(`${name} is an error that quotes nothing, and the engine lives`, async () => {
    const { errors } = await engine.answer(query)
    assert.equal(errors[0].user_facing_error.error_code, 'P2009')
    assert.doesNotMatch(JSON.stringify(errors), /secret/i)
    assert.ok(await engine.isReady())
  })
}

test('without a connection string it does not start, and says why', async () => {
  await assert.rejects(Running.start(''), /connection string/)
})

test('without a schema it does not start, and says why', async () => {
  await assert.rejects(Running.start(url, { schema: '/nowhere/schema.prisma' }), /ENOENT/)
})

for (const signal of /** @type {NodeJS.Signals[]} */ (['SIGTERM', 'SIGINT'])) {
  test(`${signal} ends it with 0, and its connections with it`, async () => {
    const another = await Running.start(`${url}&application_name=ending`)
    await another.raw('SELECT 1 AS x')
    const connections = () =>
      engine.raw("SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'ending'")
    assert.equal((await connections())[0].n.prisma__value, 1)
    assert.equal(await another.stop(signal), 0)
    assert.equal((await connections())[0].n.prisma__value, 0)
    assert.equal(another.printed, '')
  })
}

test('a query that runs is answered before it ends', async () => {
  const another = await Running.start(url)
  const running = another.raw('SELECT pg_sleep(0.5)::text AS x')
  await another.raw('SELECT 1 AS x')
  assert.equal(await another.stop(), 0)
  assert.equal((await running).length, 1)
})

test('it ends when its parent is killed', async () => {
  const socket = await freeSocket()
  const schema = fileURLToPath(new URL('schema.prisma', import.meta.url))
  const started = `require('child_process').spawn(process.execPath, process.argv.slice(1), { stdio: ['pipe', 'ignore', 'inherit'] })`
  const parent = spawn(process.execPath, ['-e', started, MAIN, socket, schema], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, DATABASE_URL: url },
  })
  const ended = once(parent.stderr.resume(), 'end') // when nobody holds its other end
  const answers = () => ask(socket, { path: '/status' }).then(Boolean, () => false)
  while (!(await answers()));
  parent.kill('SIGKILL')
  await ended
})
