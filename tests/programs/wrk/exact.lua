-- wrk -s exact.lua … URL -- COUNT MIX…: with one connection per thread, each thread gets COUNT responses to
-- "METHOD PATH [SIZE]" of the mix in turn, then prints its counts by status as JSON and stops. wrk itself stops
-- by time or signal, where a request can be under way.
local requests, counts, left, current = {}, {}, 0, 0

function init(args)
  left = tonumber(args[1])
  for i = 2, #args do
    local method, path, size = args[i]:match("^(%S+) (%S+) ?(%d*)$")
    local body = size ~= "" and size ~= "0" and string.rep("x", tonumber(size)) or nil
    table.insert(requests, wrk.format(method, path, nil, body))
  end
end

function request()
  current = current % #requests + 1
  return requests[current]
end

function response(status)
  counts[status] = (counts[status] or 0) + 1
  left = left - 1
  if left == 0 then
    local fields = {}
    for code, count in pairs(counts) do
      table.insert(fields, string.format('"%d":%d', code, count))
    end
    io.write("{" .. table.concat(fields, ",") .. "}\n")
    io.flush()
    wrk.thread:stop()
  end
end
