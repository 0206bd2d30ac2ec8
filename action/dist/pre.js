require('./action.js').run('pre')
