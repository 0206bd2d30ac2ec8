require('./action.js').run('main')
