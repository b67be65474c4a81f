import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'

import { Running, tables } from './running.js'

/** @type {Running} */
let engine
before(async () => (engine = await Running.start(await tables('engine_writes'))))
after(() => engine.stop())
beforeEach(async () => {
  await engine.batch(['Budget', 'Member', 'Team', 'Thing'].map((model) => `result: deleteMany${model} { count }`))
  await engine.result(`result: createOneTeam(data: {
    id: 1 name: "one" members: { create: { user: "ann" spend: 1 tokens: 9007199254740992 info: "{\\"a\\": 1}" } } budget: { create: { limits: "{}" } }
  }) { id }`)
})

const team = (selection) => engine.result(`result: findUniqueTeam(where: { id: 1 }) { ${selection} }`)
const update = (data, selection = 'name') =>
  engine.result(`result: updateOneTeam(where: { id: 1 } data: { ${data} }) { ${selection} }`)
const members = 'members(orderBy: { user: "asc" }) { user info }'
const ANN = '{ team_id_user: { team_id: 1 user: "ann" } }'

test('update', async () => {
  assert.deepEqual(await update('name: "uno" data: "[\\"x\\"]"', 'name data'), { name: 'uno', data: '["x"]' })
  assert.deepEqual(await update('name: { set: "one" }'), { name: 'one' })
})

test('increment, also beyond 2^53', async () => {
  const data = '{ spend: { increment: 0.5 } tokens: { increment: 1 } }'
  assert.deepEqual(await engine.result(`result: updateOneMember(where: ${ANN} data: ${data}) { spend tokens }`), {
    spend: 1.5,
    tokens: '9007199254740993',
  })
})

test('a list is set, and grows', async () => {
  await engine.result('result: createOneThing(data: { id: "a" texts: { set: ["x"] } jsons: { set: ["1"] } }) { id }')
  assert.deepEqual(
    await engine.result(`result: updateOneThing(where: { id: "a" } data: {
      texts: { push: "y" } bigs: { push: [9007199254740993] } jsons: { push: ["\\"2\\""] }
    }) { texts bigs jsons }`),
    { texts: ['x', 'y'], bigs: ['9007199254740993'], jsons: ['1', '"2"'] },
  )
})

test('upsert creates, then updates', async () => {
  const upsert = () =>
    engine.result(`result: upsertOneThing(
      where: { id: "a" } create: { id: "a" whole: 1 json: "{\\"new\\": true}" } update: { whole: { increment: 1 } json: "\\"old\\"" }
    ) { whole json }`)
  assert.deepEqual(await upsert(), { whole: 1, json: '{"new":true}' })
  assert.deepEqual(await upsert(), { whole: 2, json: '"old"' })
})

test('createMany, and skipDuplicates', async () => {
  const create = (more) =>
    engine.result(
      `result: createManyThing(data: [{ id: "a" json: "{}" }, { id: "b" json: "\\"x\\"" whole: 1 }] ${more}) { count }`,
    )
  assert.deepEqual(await create(''), { count: 2 })
  assert.deepEqual(await create('skipDuplicates: true'), { count: 0 })
  await assert.rejects(create(''), /P2002/)
  assert.equal((await engine.result('result: findUniqueThing(where: { id: "b" }) { json }')).json, '"x"')
})

test('createMany of a thousand', async () => {
  const data = Array.from(
    { length: 1000 },
    (_, index) => `{ id: "many ${index}" json: "{}" big: ${index} texts: ["a"] }`,
  )
  assert.deepEqual(await engine.result(`result: createManyThing(data: [${data}] skipDuplicates: true) { count }`), {
    count: 1000,
  })
})

test('updateMany and deleteMany', async () => {
  await engine.result('result: createManyThing(data: [{ id: "a" }, { id: "b" }, { id: "c" whole: 1 }]) { count }')
  const where = 'where: { whole: null }'
  assert.deepEqual(await engine.result(`result: updateManyThing(${where} data: { json: "[1]" }) { count }`), {
    count: 2,
  })
  assert.deepEqual(await engine.result(`result: deleteManyThing(where: { json: { equals: "[1]" } }) { count }`), {
    count: 2,
  })
  assert.deepEqual(await engine.result('result: deleteManyThing { count }'), { count: 1 })
})

test('delete', async () => {
  await engine.result('result: createOneThing(data: { id: "a" }) { id }')
  assert.deepEqual(await engine.result('result: deleteOneThing(where: { id: "a" }) { id }'), { id: 'a' })
  assert.equal((await engine.error('result: deleteOneThing(where: { id: "a" }) { id }')).error_code, 'P2025')
})

for (const [name, written, after] of [
  [
    'create',
    'members: { create: [{ user: "bob" info: "[1]" }] }',
    [
      ['ann', '{"a":1}'],
      ['bob', '[1]'],
    ],
  ],
  [
    'createMany',
    'members: { createMany: { data: [{ user: "bob" info: "[1]" }] skipDuplicates: true } }',
    [
      ['ann', '{"a":1}'],
      ['bob', '[1]'],
    ],
  ],
  ['update', `members: { update: { where: ${ANN} data: { info: "\\"x\\"" } } }`, [['ann', '"x"']]],
  [
    'updateMany',
    'members: { updateMany: [{ where: { info: { equals: "{\\"a\\": 1}" } } data: { info: "null" } }] }',
    [['ann', 'null']],
  ],
  [
    'upsert',
    `members: { upsert: [{ where: ${ANN} create: { user: "ann" info: "1" } update: { info: "2" } }] }`,
    [['ann', '2']],
  ],
  [
    'connectOrCreate',
    'members: { connectOrCreate: [{ where: { team_id_user: { team_id: 1 user: "bob" } } create: { user: "bob" info: "3" } }] }',
    [
      ['ann', '{"a":1}'],
      ['bob', '3'],
    ],
  ],
  ['delete', `members: { delete: [${ANN}] }`, []],
  ['deleteMany', 'members: { deleteMany: [{ info: { path: ["a"] equals: "1" } }] }', []],
]) {
  test(`nested in an update: ${name}`, async () => {
    await update(written)
    assert.deepEqual(
      (await team(members)).members.map(({ user, info }) => [user, info]),
      after,
    )
  })
}

test('nested in an update, with one on the other side', async () => {
  assert.deepEqual(await update('budget: { update: { limits: "[2]" } }', 'budget { limits }'), {
    budget: { limits: '[2]' },
  })
  assert.deepEqual(
    await update('budget: { upsert: { create: { limits: "1" } update: { limits: "3" } } }', 'budget { limits }'),
    {
      budget: { limits: '3' },
    },
  )
  assert.deepEqual(await update('budget: { delete: true }', 'budget { limits }'), { budget: null })
})

test('connected', async () => {
  const created = await engine.result(
    'result: createOneMember(data: { user: "bob" info: "[]" team: { connect: { id: 1 } } }) { user team { name } }',
  )
  assert.deepEqual(created, { user: 'bob', team: { name: 'one' } })
})

test('created the other way round, three models deep', async () => {
  const data =
    '{ user: "cy" team: { create: { id: 3 name: "three" data: "\\"d\\"" budget: { create: { limits: "[\\"x\\"]" } } } } }'
  assert.deepEqual(await engine.result(`result: createOneMember(data: ${data}) { team { data budget { limits } } }`), {
    team: { data: '"d"', budget: { limits: '["x"]' } },
  })
})

test('a batch is written whole', async () => {
  const answer = await engine.batch([
    'result: createOneThing(data: { id: "a" json: "[1]" big: 9007199254740993 }) { id json big }',
    'result: updateManyThing(where: { id: "a" } data: { whole: 2 }) { count }',
    `result: executeRaw(query: "UPDATE engine_writes.\\"Thing\\" SET text = $1", parameters: "[\\"x\\"]")`,
  ])
  assert.deepEqual(answer, {
    batchResult: [
      { data: { result: { id: 'a', json: '[1]', big: '9007199254740993' } } },
      { data: { result: { count: 1 } } },
      { data: { result: 1 } },
    ],
  })
})

test('or not at all', async () => {
  const { errors } = await engine.batch([
    'result: createOneThing(data: { id: "a" }) { id }',
    'result: createOneThing(data: { id: "a" }) { id }',
  ])
  assert.equal(errors[0].user_facing_error.error_code, 'P2002')
  assert.deepEqual(await engine.result('result: findManyThing { id }'), [])
})

test('a hundred writers lose nothing', async () => {
  const data = '{ spend: { increment: 1 } }'
  await Promise.all(
    Array.from({ length: 100 }, () => engine.result(`result: updateOneMember(where: ${ANN} data: ${data}) { user }`)),
  )
  assert.equal((await team('members { spend }')).members[0].spend, 101)
})
