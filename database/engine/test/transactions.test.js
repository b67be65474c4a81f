import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'

import { Running, tables } from './running.js'

/** @type {Running} */
let engine
before(async () => {
  const url = new URL(await tables('engine_transactions'))
  url.searchParams.set('connection_limit', '3')
  url.searchParams.set('pool_timeout', '1')
  engine = await Running.start(url.href)
})
after(() => engine.stop())
beforeEach(() => engine.result('result: deleteManyThing { count }'))

const post = async (where, body) => (await engine.request('POST', where, body)).json()
const begin = async (timeout = 5000, more = {}) =>
  (await post('/transaction/start', { max_wait: 500, timeout, ...more })).id
const end = (id, how) => post(`/transaction/${id}/${how}`)
const create = (id, transaction) => engine.result(`result: createOneThing(data: { id: "${id}" }) { id }`, transaction)
const ids = async (transaction) =>
  (await engine.result('result: findManyThing(orderBy: { id: "asc" }) { id }', transaction))
    .map(({ id }) => id)
    .join('')
const closed = async (query) => {
  const { errors } = await query
  assert.equal(errors[0].user_facing_error.error_code, 'P2028')
  return errors[0].error
}

test('what is committed stays', async () => {
  const transaction = await begin()
  await create('a', transaction)
  assert.deepEqual([await ids(transaction), await ids()], ['a', ''])
  assert.deepEqual(await end(transaction, 'commit'), {})
  assert.equal(await ids(), 'a')
})

test('what is rolled back has never been', async () => {
  const transaction = await begin()
  await create('a', transaction)
  assert.deepEqual(await end(transaction, 'rollback'), {})
  assert.equal(await ids(), '')
})

test('batches and raw queries take part', async () => {
  const transaction = await begin()
  const batch = [{ query: 'mutation { result: createOneThing(data: { id: "a" }) { id } }' }]
  await engine.request('POST', '/', { batch, transaction: true }, { 'X-transaction-id': transaction })
  await engine.result(`result: executeRaw(query: "UPDATE \\"Thing\\" SET text = 'x'", parameters: "[]")`, transaction)
  assert.equal(await ids(transaction), 'a')
  await end(transaction, 'rollback')
  assert.equal(await ids(), '')
})

test('one that lasts too long is rolled back, and says so', async () => {
  const transaction = await begin(100)
  await create('a', transaction)
  await delay(300)
  assert.match(
    await closed(engine.answer('query { result: findManyThing { id } }', transaction)),
    /^Transaction already closed/,
  )
  assert.match(await closed(end(transaction, 'commit')), /^Transaction already closed/)
  assert.equal(await ids(), '')
})

test('after an error it can only be rolled back', async () => {
  const transaction = await begin()
  await create('a', transaction)
  assert.equal(
    (await engine.error('result: createOneThing(data: { id: "a" }) { id }', transaction)).error_code,
    'P2002',
  )
  await engine.error('result: createOneThing(data: { id: "b" }) { id }', transaction)
  await end(transaction, 'rollback')
  assert.equal(await ids(), '')
})

for (const how of ['commit', 'rollback']) {
  test(`after a ${how} nothing more can be done with it`, async () => {
    const transaction = await begin()
    await end(transaction, how)
    assert.match(
      await closed(engine.answer('query { result: findManyThing { id } }', transaction)),
      /^Transaction already closed/,
    )
    await closed(end(transaction, 'commit'))
    await closed(end(transaction, 'rollback'))
  })
}

test('one that never was is refused, and the engine lives', async () => {
  assert.match(await closed(end('none', 'commit')), /^Transaction not found/)
  assert.match(await closed(end('none', 'rollback')), /^Transaction not found/)
  assert.match(await closed(engine.answer('query { result: findManyThing { id } }', 'none')), /^Transaction not found/)
})

test('so is one that ended long ago', async () => {
  const first = await begin()
  await end(first, 'commit')
  for (let index = 0; index < 150; index += 1) await end(await begin(), 'rollback')
  await closed(end(first, 'commit'))
  assert.equal(await ids(), '')
})

test('several at once do not see each other', async () => {
  const [one, two] = [await begin(), await begin()]
  await Promise.all([create('a', one), create('b', two)])
  assert.deepEqual([await ids(one), await ids(two), await ids()], ['a', 'b', ''])
  await Promise.all([end(one, 'commit'), end(two, 'commit')])
  assert.equal(await ids(), 'ab')
})

test('isolation as asked', async () => {
  const transaction = await begin(5000, { isolation_level: 'Serializable' })
  const show = 'result: queryRaw(query: "SHOW transaction_isolation", parameters: "[]")'
  assert.equal((await engine.result(show, transaction))[0].transaction_isolation.prisma__value, 'serializable')
  await end(transaction, 'rollback')
})

test('a pool without a free connection says so in time, and recovers', async () => {
  const open = await Promise.all([begin(), begin(), begin()])
  const started = performance.now()
  const waited = await post('/transaction/start', { max_wait: 500, timeout: 1000 })
  assert.equal(waited.errors[0].user_facing_error.error_code, 'P2028')
  assert.equal((await engine.error('result: findManyThing { id }')).error_code, 'P2024')
  assert.ok(performance.now() - started < 4000)
  await Promise.all(open.map((id) => end(id, 'rollback')))
  assert.deepEqual(await Promise.all([begin(), begin(), begin()].map(async (id) => end(await id, 'rollback'))), [
    {},
    {},
    {},
  ])
  assert.equal(await ids(), '')
})

test('sixty at once, each with a turn', async () => {
  const slow = await Promise.all(
    Array.from({ length: 60 }, async (_, index) => {
      const { id } = await post('/transaction/start', { max_wait: 5000, timeout: 5000 })
      if (!id) return 'refused'
      await create(`t${index}`, id)
      await end(id, 'commit')
      return 'committed'
    }),
  )
  const rows = await engine.result('result: findManyThing { id }')
  assert.equal(rows.length, slow.filter((how) => how === 'committed').length)
  assert.ok(rows.length > 3)
})
