CREATE TYPE "Colour" AS ENUM ('RED', 'GREEN');

CREATE TABLE "Thing" (
    "id" TEXT PRIMARY KEY,
    "text" TEXT,
    "whole" INTEGER,
    "big" BIGINT,
    "real" DOUBLE PRECISION,
    "exact" DECIMAL(65,30),
    "yes" BOOLEAN,
    "time" TIMESTAMP(3),
    "bytes" BYTEA,
    "json" JSONB,
    "settings" JSONB NOT NULL DEFAULT '{}',
    "colour" "Colour",
    "texts" TEXT[],
    "bigs" BIGINT[],
    "jsons" JSONB[],
    "updated" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE "Team" ("id" SERIAL PRIMARY KEY, "name" TEXT NOT NULL UNIQUE, "data" JSONB);

CREATE TABLE "Member" (
    "team_id" INTEGER NOT NULL REFERENCES "Team" ("id"),
    "user" TEXT NOT NULL,
    "spend" DOUBLE PRECISION NOT NULL DEFAULT 0,
    "tokens" BIGINT NOT NULL DEFAULT 0,
    "info" JSONB NOT NULL DEFAULT '{}',
    PRIMARY KEY ("team_id", "user")
);

CREATE TABLE "Budget" (
    "id" SERIAL PRIMARY KEY,
    "limits" JSONB NOT NULL,
    "team_id" INTEGER NOT NULL UNIQUE REFERENCES "Team" ("id")
);
