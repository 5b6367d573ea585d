-- Definitions that scripts of every package use. KEYS[1] is the key prefix.
-- Times are milliseconds of Redis TIME, the only clock.
local P = KEYS[1]

local asked
local function time()
  asked = asked or redis.call('TIME')
  return asked
end

local function now_ms()
  local t = time()
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function int(value) return string.format('%d', value) end
local function exact(value) return string.format('%.4f', value) end
